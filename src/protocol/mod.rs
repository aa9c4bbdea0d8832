//! The commands and scripts that are sent to redis, and what their replies mean.

pub mod command;
