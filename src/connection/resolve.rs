//! Looks up host names, anew for each attempt to connect.
//!
//! The system's resolver blocks, so each look-up has a thread. The thread is made here and not by tokio, which panics
//! if the system refuses one. A resolver that hangs keeps its thread until it answers. So each host has one look-up at
//! a time, which later attempts join, and all names together have a few.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, timeout_at};

use crate::model::endpoint::Host;
use crate::model::system_error::{in_words, name_of};

/// The most look-ups at a time. Each has a thread.
const MAX_LOOKUPS: usize = 16;

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The message, as Node would word it.
    pub detail: String,
    /// The name of the error, such as `ENOTFOUND`.
    pub reason: &'static str,
}

/// The addresses of a name.
pub type Answer = Result<Vec<SocketAddr>, Unresolved>;

/// The addresses of a host, in the order in which to try them.
///
/// # Errors
/// Why there are none, or that there are none by the `deadline`.
pub async fn resolve(host: &Host, deadline: Instant) -> Answer {
    if let Ok(address) = host.name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, host.port)]);
    }
    #[cfg(test)]
    if let Some(names) = SIMULATED.get() {
        return names(host);
    }
    SYSTEM.resolve(host, deadline).await
}

#[cfg(test)]
type Names = fn(&Host) -> Answer;

#[cfg(test)]
thread_local! {
    static SIMULATED: std::cell::Cell<Option<Names>> = const { std::cell::Cell::new(None) };
}

/// The names that this thread knows from now on; `None` are the system's.
#[cfg(test)]
pub fn simulate(names: Option<Names>) {
    SIMULATED.set(names);
}

static SYSTEM: Resolver =
    Resolver::new(|host| Ok((host.name.as_str(), host.port).to_socket_addrs()?.collect()));

struct Resolver {
    look_up: fn(&Host) -> io::Result<Vec<SocketAddr>>,
    in_flight: Mutex<Vec<(Host, watch::Receiver<Option<Answer>>)>>,
    slots: Semaphore,
}

impl Resolver {
    const fn new(look_up: fn(&Host) -> io::Result<Vec<SocketAddr>>) -> Self {
        Self { look_up, in_flight: Mutex::new(Vec::new()), slots: Semaphore::const_new(MAX_LOOKUPS) }
    }

    async fn resolve(&'static self, host: &Host, deadline: Instant) -> Answer {
        timeout_at(deadline, self.answer(host)).await.unwrap_or_else(|_| {
            let detail =
                format!("getaddrinfo ETIMEDOUT {}: the system's resolver does not answer", host.name);
            Err(Unresolved { detail, reason: "ETIMEDOUT" })
        })
    }

    async fn answer(&'static self, host: &Host) -> Answer {
        let mut answer = match self.join(host) {
            Some(answer) => answer,
            None => match self.slots.acquire().await {
                Ok(slot) => self.begin(host, slot).map_err(|error| no_thread(host, &error))?,
                Err(_) => return Err(no_answer(host)),
            },
        };
        let answered = answer.wait_for(Option::is_some).await;
        answered.ok().and_then(|answer| answer.clone()).unwrap_or_else(|| Err(no_answer(host)))
    }

    /// Joins the look-up of this host that is in flight, if there is one.
    fn join(&self, host: &Host) -> Option<watch::Receiver<Option<Answer>>> {
        find(&self.in_flight(), host)
    }

    /// Starts a look-up; joins one that was started since [`Self::join`].
    fn begin(
        &'static self,
        host: &Host,
        slot: SemaphorePermit<'static>,
    ) -> io::Result<watch::Receiver<Option<Answer>>> {
        let (sender, answer) = watch::channel(None);
        {
            let mut in_flight = self.in_flight();
            if let Some(answer) = find(&in_flight, host) {
                return Ok(answer);
            }
            in_flight.push((host.clone(), answer.clone()));
        }
        // If there is no thread, this is dropped here, and so taken off the list.
        let lookup = Lookup { resolver: self, host: host.clone(), _slot: slot };
        thread::Builder::new().name("reservation-dns".to_owned()).spawn(move || {
            let found = (self.look_up)(&lookup.host).map_err(|error| not_found(&lookup.host, &error));
            // Whoever asks from now on gets a new look-up.
            drop(lookup);
            sender.send_replace(Some(found));
        })?;
        Ok(answer)
    }

    fn in_flight(&self) -> MutexGuard<'_, Vec<(Host, watch::Receiver<Option<Answer>>)>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(
    in_flight: &[(Host, watch::Receiver<Option<Answer>>)],
    host: &Host,
) -> Option<watch::Receiver<Option<Answer>>> {
    in_flight.iter().find(|(other, _)| other == host).map(|(_, answer)| answer.clone())
}

/// A look-up in flight. Dropping it, also by a panic, takes it off the list and frees its slot.
struct Lookup {
    resolver: &'static Resolver,
    host: Host,
    _slot: SemaphorePermit<'static>,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.resolver.in_flight().retain(|(host, _)| *host != self.host);
    }
}

fn no_thread(host: &Host, error: &io::Error) -> Unresolved {
    let reason = name_of(error);
    let detail = format!(
        "getaddrinfo {reason} {}: there is no thread to look it up on; raise the limit of threads (ulimit -u, or the pids \
         limit of the container), or give an address instead of a name",
        host.name
    );
    Unresolved { detail, reason }
}

fn no_answer(host: &Host) -> Unresolved {
    let detail = format!("getaddrinfo EAI_FAIL {}: the look-up ended without an answer", host.name);
    Unresolved { detail, reason: "EAI_FAIL" }
}

fn not_found(host: &Host, error: &io::Error) -> Unresolved {
    let text = error.to_string();
    let (reason, words) = if error.raw_os_error().is_some() {
        (name_of(error), in_words(error))
    } else if text.contains("Temporary failure") || text.contains("Try again") {
        // The words of glibc and musl: no name server has answered.
        ("EAI_AGAIN", format!(" ({text})"))
    } else {
        ("ENOTFOUND", format!(" ({text})"))
    };
    Unresolved { detail: format!("getaddrinfo {reason} {}{words}", host.name), reason }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn host(name: &str) -> Host {
        Host { name: name.to_owned(), port: 6379 }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let found = resolve(&host("::1"), Instant::now()).await;
        assert_eq!(found, Ok(vec!["[::1]:6379".parse().unwrap()]));
    }

    #[tokio::test]
    async fn each_attempt_looks_a_name_up_anew() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        static CHANGING: Resolver = Resolver::new(|_| {
            let number = LOOKUPS.fetch_add(1, Ordering::Relaxed);
            Ok(vec![SocketAddr::from(([127, 0, 0, u8::try_from(number).unwrap()], 1))])
        });
        for number in 0..40 {
            let found = CHANGING.resolve(&host("moves"), later()).await;
            assert_eq!(found, Ok(vec![SocketAddr::from(([127, 0, 0, number], 1))]));
        }
    }

    #[tokio::test]
    async fn a_resolver_that_hangs_is_given_up_in_time_and_gets_no_second_thread() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        static HANGS: AtomicBool = AtomicBool::new(true);
        static HANGING: Resolver = Resolver::new(|_| {
            LOOKUPS.fetch_add(1, Ordering::Relaxed);
            while HANGS.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(Vec::new())
        });
        for _ in 0..20 {
            let given_up = HANGING.resolve(&host("a"), soon()).await.unwrap_err();
            assert_eq!(given_up.reason, "ETIMEDOUT");
            assert!(given_up.detail.contains("resolver does not answer"), "{}", given_up.detail);
        }
        assert_eq!(LOOKUPS.load(Ordering::Relaxed), 1, "attempts share one look-up");
        let names: Vec<_> = (0..100).map(|number| host(&number.to_string())).collect();
        let attempts: Vec<_> = names
            .into_iter()
            .map(|name| tokio::spawn(async move { HANGING.resolve(&name, soon()).await }))
            .collect();
        for attempt in attempts {
            assert_eq!(attempt.await.unwrap().unwrap_err().reason, "ETIMEDOUT");
        }
        let threads = LOOKUPS.load(Ordering::Relaxed);
        assert!(threads <= MAX_LOOKUPS, "{threads} threads");
        // It goes on: those who wait are answered, and nothing is left behind.
        let waiting = tokio::spawn(async { HANGING.resolve(&host("a"), later()).await });
        tokio::task::yield_now().await;
        HANGS.store(false, Ordering::Relaxed);
        assert_eq!(waiting.await.unwrap(), Ok(Vec::new()));
        assert_eq!(HANGING.resolve(&host("new"), later()).await, Ok(Vec::new()));
        while HANGING.slots.available_permits() < MAX_LOOKUPS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(HANGING.in_flight().is_empty());
    }

    #[tokio::test]
    async fn a_look_up_that_panics_is_an_error_and_leaves_nothing_behind() {
        static BROKEN: Resolver = Resolver::new(|_| panic!("a fault of the look-up"));
        for _ in 0..=MAX_LOOKUPS {
            assert_eq!(BROKEN.resolve(&host("a"), later()).await.unwrap_err().reason, "EAI_FAIL");
        }
    }

    #[test]
    fn what_the_resolver_says_is_named_as_node_names_it() {
        for (error, expected) in [
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "getaddrinfo ENOTFOUND a (failed to lookup address information: Name or service not known)",
            ),
            (
                io::Error::other(
                    "failed to lookup address information: Temporary failure in name resolution",
                ),
                "getaddrinfo EAI_AGAIN a (failed to lookup address information: Temporary failure in name resolution)",
            ),
        ] {
            assert_eq!(not_found(&host("a"), &error).detail, expected);
        }
    }
}
