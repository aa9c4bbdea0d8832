//! What is done with a lock: taking, waiting, renewing, releasing, and the end of what is lost. All of it runs on the
//! core's one thread.
//!
//! - [`acquire`], with [`replicas`]: take a key.
//! - [`wait`], [`wait_queue`]: wait for one that is held.
//! - [`renew`], [`schedule`]: renew what is held, in batches.
//! - [`release`], [`release_batch`]: give it back, or hand it to the next waiter of this process.
//! - [`loss`], [`undo`], [`sent`]: the end of what was lost, and of what a lost reply left behind.
//! - [`attempts`]: the one retry loop that all of these use.
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
