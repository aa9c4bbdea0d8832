//! The operations on locks: acquire, wait, renew, release, and the end of a lost lock. All of it runs on the core's one
//! thread.
//!
//! - [`acquire`], with [`replicas`]: take a key.
//! - [`wait`], [`wait_queue`]: wait for a key that somebody holds.
//! - [`renew`], [`schedule`]: renew reservations, in batches.
//! - [`release`], [`release_batch`]: release a reservation, or hand its key to the next waiter of this process.
//! - [`watch`], [`watched`]: learn at once that somebody else has changed the key of a lease.
//! - [`loss`], [`undo`], [`sent`]: end a reservation that was lost, and delete what a lost reply left behind.
//! - [`attempts`]: the one retry loop, which all of these use.
//! - [`endpoint_state`], [`table`], [`doubtful`]: what is held and waited for at one endpoint.

pub mod acquire;
pub mod attempts;
pub mod doubtful;
pub mod endpoint_state;
pub mod loss;
pub mod release;
pub mod release_batch;
pub mod renew;
pub mod replicas;
pub mod schedule;
pub mod sent;
pub mod table;
pub mod undo;
pub mod wait;
pub mod wait_queue;
pub mod watch;
pub mod watched;
