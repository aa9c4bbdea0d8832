//! Values that more than one thread or room sees. They do no I/O.
//!
//! - [`reservation`], [`claim`], [`lease`], [`settings`]: a lock that is held, and the settings it was made with.
//! - [`endpoint`], [`secret`], [`tls`]: which redis, and how to log in.
//! - [`answer`]: how the core answers calls and reports events.
//! - [`error`], with [`refusal`], [`acl`], [`system_error`] and [`quote`]: failures, and their sentences.

pub mod acl;
pub mod answer;
pub mod claim;
pub mod endpoint;
pub mod error;
pub mod lease;
pub mod quote;
pub mod refusal;
pub mod reservation;
pub mod secret;
pub mod settings;
pub mod system_error;
pub mod tls;
