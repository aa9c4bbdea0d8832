//! The commands and scripts that are sent to redis, and what their replies and refusals mean.

pub mod command;
