//! What Node sees, and the only room that knows napi: the class, the environments that call it, and the way back to
//! JavaScript.
//!
//! - [`reserve_resource`]: the class. Turns arguments into requests.
//! - [`environments`]: the one core of the process, and each environment that uses it.
//! - [`environment`] with its [`handles`]: pending calls of one environment, and the delivery of answers to it.
//! - [`mailbox`]: the queue of answers and events, filled by the core's thread.
//! - [`waker`]: wakes the event loop of an environment.
//! - [`convert`]: answers, failures and events as JavaScript values.
//! - `counting_allocator`: in test builds, an allocator that counts the bytes in use.

mod convert;
#[cfg(feature = "count-allocations")]
pub mod counting_allocator;
mod environment;
mod environments;
mod handles;
pub mod mailbox;
mod reserve_resource;
mod waker;
