//! Client-side caching: who has read which key, and is told, once, that it changed.

use std::collections::{BTreeMap, BTreeSet};

use super::Server;
use super::client::ClientId;
use super::resp::Reply;

/// By key alone: redis does not tell databases apart here.
#[derive(Debug, Default)]
pub struct Tracking {
    readers: BTreeMap<Vec<u8>, BTreeSet<ClientId>>,
    /// What the client whose command runs is told once that has its reply; `None`: that all is gone.
    pending: Vec<Option<Vec<u8>>>,
}

impl Server {
    /// Remembers that a client has read these keys, if it asked to be told of them.
    pub(super) fn remember(&mut self, reader: ClientId, keys: &[Vec<u8>]) {
        let Some(client) = self.clients.get(&reader) else { return };
        if !client.tracks || (client.opts_in && !client.caching) {
            return;
        }
        for key in keys {
            self.tracking.readers.entry(key.clone()).or_default().insert(reader);
        }
    }

    /// Tells all who have read this key, and forgets that they have.
    pub(super) fn invalidate(&mut self, key: &[u8]) {
        for reader in self.tracking.readers.remove(key).unwrap_or_default() {
            if self.current == Some(reader) {
                self.tracking.pending.push(Some(key.to_vec()));
            } else {
                self.tell(reader, Some(key));
            }
        }
    }

    /// Tells everybody that all is gone.
    pub(super) fn invalidate_all(&mut self) {
        self.tracking.readers.clear();
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            if self.current == Some(id) {
                self.tracking.pending.push(None);
            } else {
                self.tell(id, None);
            }
        }
    }

    /// What the client whose command has run is to be told.
    pub(super) fn tell_pending(&mut self, id: ClientId) {
        for key in std::mem::take(&mut self.tracking.pending) {
            self.tell(id, key.as_deref());
        }
    }

    pub(super) fn forget_reader(&mut self, id: ClientId) {
        self.tracking.readers.retain(|_, readers| {
            readers.remove(&id);
            !readers.is_empty()
        });
    }

    /// A client that speaks RESP2 has no way to hear it.
    fn tell(&mut self, id: ClientId, key: Option<&[u8]>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.tracks || !client.resp3 || client.closes {
            return;
        }
        let keys = key.map_or(Reply::Nil, |key| Reply::Array(vec![Reply::bulk(key)]));
        Reply::Push(vec![Reply::bulk("invalidate"), keys]).write(&mut client.output, true);
    }
}
