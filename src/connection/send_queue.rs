//! The commands that wait to be written on a connection. Renewals and releases go before everything else.

use std::collections::VecDeque;

use redis::Cmd;

/// The most commands in one batch: so few that the first replies are handled while the next commands are on their way.
pub const MAX_BATCH: usize = 500;

/// How many commands may be in flight, give or take a batch: enough to keep redis busy, and so few that an urgent
/// command is not queued long behind them.
pub const MAX_IN_FLIGHT: usize = 4_000;

/// The size of the crate's buffer for batches. It has room for every batch that there can be, so no batch waits for
/// room and is overtaken.
pub const CRATE_BUFFER: usize = MAX_IN_FLIGHT + MAX_BATCH;

/// How urgent a command is, and whether it must stay right behind the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Renewals: no burst of other commands may cost a lease.
    Renewal,
    /// Releases: somebody may wait for the key.
    Release,
    /// Everything else, in order.
    Regular,
    /// As regular, and right behind the command before it.
    Joined,
}

/// One command, and where its reply goes.
struct Entry<Reply> {
    command: Cmd,
    reply: Reply,
    /// It must stay right behind the one before it.
    is_joined: bool,
}

/// Commands that are written together.
pub struct Batch<Reply> {
    /// The commands.
    pub commands: redis::Pipeline,
    /// Where their replies go, in the order of the commands.
    pub replies: Vec<Reply>,
}

impl<Reply> Batch<Reply> {
    fn with_room_for(size: usize) -> Self {
        Self { commands: redis::Pipeline::with_capacity(size), replies: Vec::with_capacity(size) }
    }

    fn push(&mut self, entry: Entry<Reply>) {
        self.commands.add_command(entry.command);
        self.replies.push(entry.reply);
    }
}

/// The commands of one connection that are not written yet.
pub struct SendQueue<Reply> {
    renewals: VecDeque<Entry<Reply>>,
    releases: VecDeque<Entry<Reply>>,
    regular: VecDeque<Entry<Reply>>,
}

impl<Reply> Default for SendQueue<Reply> {
    fn default() -> Self {
        Self { renewals: VecDeque::new(), releases: VecDeque::new(), regular: VecDeque::new() }
    }
}

impl<Reply> SendQueue<Reply> {
    /// Adds a command.
    pub fn push(&mut self, lane: Lane, command: Cmd, reply: Reply) {
        let entry = Entry { command, reply, is_joined: lane == Lane::Joined };
        match lane {
            Lane::Renewal => self.renewals.push_back(entry),
            Lane::Release => self.releases.push_back(entry),
            Lane::Regular | Lane::Joined => self.regular.push_back(entry),
        }
    }

    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.renewals.is_empty() && self.releases.is_empty() && self.regular.is_empty()
    }

    /// Takes out the next batch of about `most` commands: urgent ones first, joined ones together. Commands whose reply
    /// nobody waits for any more are dropped, so what has timed out in the queue never reaches redis.
    pub fn take(&mut self, most: usize, is_wanted: impl Fn(&Reply) -> bool) -> Batch<Reply> {
        let size = self.renewals.len() + self.releases.len() + self.regular.len();
        let mut batch = Batch::with_room_for(size.min(most));
        for lane in [&mut self.renewals, &mut self.releases] {
            while batch.replies.len() < most
                && let Some(entry) = lane.pop_front()
            {
                if is_wanted(&entry.reply) {
                    batch.push(entry);
                }
            }
        }
        while let Some(entry) = self.regular.front()
            && (batch.replies.len() < most || entry.is_joined)
            && let Some(entry) = self.regular.pop_front()
        {
            if entry.is_joined || is_wanted(&entry.reply) {
                batch.push(entry);
            }
        }
        for lane in [&mut self.renewals, &mut self.releases, &mut self.regular] {
            // Free the memory after a burst.
            if lane.is_empty() && lane.capacity() > MAX_IN_FLIGHT {
                *lane = VecDeque::new();
            }
        }
        batch
    }

    /// Drops the commands whose time is over, and returns their replies. A joined command is dropped with the one that
    /// it follows.
    pub fn drop_all(&mut self, is_over: impl Fn(&Reply) -> bool) -> Vec<Reply> {
        let mut dropped = Vec::new();
        for lane in [&mut self.renewals, &mut self.releases, &mut self.regular] {
            if !lane.iter().any(|entry| is_over(&entry.reply)) {
                continue;
            }
            let mut is_dropping = false;
            for entry in std::mem::take(lane) {
                is_dropping = if entry.is_joined { is_dropping } else { is_over(&entry.reply) };
                if is_dropping {
                    dropped.push(entry.reply);
                } else {
                    lane.push_back(entry);
                }
            }
        }
        dropped
    }

    /// Where the replies of all queued commands go.
    pub fn replies(&self) -> impl Iterator<Item = &Reply> {
        let lanes = [&self.renewals, &self.releases, &self.regular];
        lanes.into_iter().flatten().map(|entry| &entry.reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgent_commands_go_first_and_each_lane_keeps_its_order() {
        let mut send_queue = SendQueue::default();
        for (lane, name) in [
            (Lane::Regular, 1),
            (Lane::Release, 2),
            (Lane::Regular, 3),
            (Lane::Renewal, 4),
            (Lane::Regular, 5),
        ] {
            send_queue.push(lane, Cmd::new(), name);
        }
        assert_eq!(send_queue.take(3, |_| true).replies, [4, 2, 1]);
        assert_eq!(send_queue.take(3, |_| true).replies, [3, 5]);
        assert!(send_queue.is_empty());
    }

    #[test]
    fn joined_commands_stay_together_and_unwanted_ones_are_never_written() {
        let mut send_queue = SendQueue::default();
        for (lane, name) in [(Lane::Regular, 1), (Lane::Regular, 2), (Lane::Joined, 3), (Lane::Joined, 4)] {
            send_queue.push(lane, Cmd::new(), name);
        }
        send_queue.push(Lane::Regular, Cmd::new(), 5);
        send_queue.push(Lane::Release, Cmd::new(), 6);
        assert_eq!(send_queue.take(3, |&name| name != 6).replies, [1, 2, 3, 4]);
        assert_eq!(send_queue.take(3, |_| true).replies, [5]);
    }

    #[test]
    fn a_command_that_timed_out_is_dropped_with_those_joined_to_it() {
        let mut send_queue = SendQueue::default();
        for (lane, name) in [
            (Lane::Regular, 1),
            (Lane::Joined, 2),
            (Lane::Regular, 3),
            (Lane::Joined, 4),
            (Lane::Renewal, 5),
            (Lane::Release, 6),
        ] {
            send_queue.push(lane, Cmd::new(), name);
        }
        assert_eq!(send_queue.drop_all(|&name| [1, 4, 5].contains(&name)), [5, 1, 2]);
        assert_eq!(send_queue.replies().copied().collect::<Vec<u32>>(), [6, 3, 4]);
        assert_eq!(send_queue.take(9, |_| true).replies, [6, 3, 4]);
    }
}
