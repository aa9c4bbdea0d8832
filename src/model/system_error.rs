//! Errors of the operating system: Node's names for them, and remedies.

use std::io;

/// The system's name of an error.
#[must_use]
pub fn name_of(error: &io::Error) -> &'static str {
    error.raw_os_error().and_then(name_of_number).unwrap_or_else(|| name_of_kind(error.kind()))
}

/// What to add to a message that already names the error: empty, or text with a separator at its start.
#[must_use]
pub fn in_words(error: &io::Error) -> String {
    match (remedy_for(name_of(error)), name_of(error)) {
        (Some(remedy), _) => format!(": {remedy}"),
        // `EIO` stands for every error without a name, so the system's words say more.
        (None, "EIO") => format!(" ({error})"),
        (None, _) => String::new(),
    }
}

fn remedy_for(name: &str) -> Option<&'static str> {
    Some(match name {
        "EMFILE" => {
            "this process has no file descriptor left; close what it has open, or raise its limit (ulimit -n)"
        }
        "ENFILE" => "this system has no file descriptor left; raise its limit (sysctl fs.file-max)",
        "ENOBUFS" | "ENOMEM" => {
            "the system has no memory for another connection; end what uses it up, or raise the limit of the container"
        }
        "ENETDOWN" => "the network of this machine is down; bring its interface up",
        "EADDRNOTAVAIL" => {
            "this machine has no address that reaches it, or no local port left (sysctl net.ipv4.ip_local_port_range)"
        }
        "EADDRINUSE" => {
            "no local port is left for another connection; widen their range (sysctl net.ipv4.ip_local_port_range)"
        }
        "EAFNOSUPPORT" => {
            "this system does not support addresses of that kind; give the host by an address of another"
        }
        "EPERM" => "a rule of this machine forbids the connection; look at its firewall and its sandbox",
        _ => return None,
    })
}

#[cfg(unix)]
fn name_of_number(number: i32) -> Option<&'static str> {
    use rustix::io::Errno;
    Some(match Errno::from_raw_os_error(number) {
        Errno::ACCESS => "EACCES",
        Errno::ADDRINUSE => "EADDRINUSE",
        Errno::ADDRNOTAVAIL => "EADDRNOTAVAIL",
        Errno::AFNOSUPPORT => "EAFNOSUPPORT",
        Errno::AGAIN => "EAGAIN",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNRESET => "ECONNRESET",
        Errno::HOSTDOWN => "EHOSTDOWN",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::INVAL => "EINVAL",
        Errno::LOOP => "ELOOP",
        Errno::MFILE => "EMFILE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NETDOWN => "ENETDOWN",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NFILE => "ENFILE",
        Errno::NOBUFS => "ENOBUFS",
        Errno::NOENT => "ENOENT",
        Errno::NOMEM => "ENOMEM",
        Errno::NOTDIR => "ENOTDIR",
        Errno::NOTSOCK => "ENOTSOCK",
        Errno::PERM => "EPERM",
        Errno::PIPE => "EPIPE",
        Errno::PROTOTYPE => "EPROTOTYPE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        _ => return None,
    })
}

/// Winsock errors without an `io::ErrorKind`.
#[cfg(windows)]
fn name_of_number(number: i32) -> Option<&'static str> {
    Some(match number {
        10024 => "EMFILE",
        10047 => "EAFNOSUPPORT",
        10048 => "EADDRINUSE",
        10050 => "ENETDOWN",
        10055 => "ENOBUFS",
        _ => return None,
    })
}

#[cfg(not(any(unix, windows)))]
fn name_of_number(_: i32) -> Option<&'static str> {
    None
}

fn name_of_kind(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::NotFound => "ENOENT",
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::WouldBlock => "EAGAIN",
        io::ErrorKind::OutOfMemory => "ENOMEM",
        _ => "EIO",
    }
}

#[cfg(all(test, unix))]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_shortage_has_its_own_name_and_a_remedy() {
        for (number, name, remedy) in [
            (Errno::MFILE, "EMFILE", "ulimit -n"),
            (Errno::NFILE, "ENFILE", "fs.file-max"),
            (Errno::NOBUFS, "ENOBUFS", "memory"),
            (Errno::NOMEM, "ENOMEM", "memory"),
            (Errno::NETDOWN, "ENETDOWN", "interface"),
            (Errno::ADDRINUSE, "EADDRINUSE", "ip_local_port_range"),
            (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL", "ip_local_port_range"),
            (Errno::AFNOSUPPORT, "EAFNOSUPPORT", "another"),
            (Errno::PERM, "EPERM", "firewall"),
        ] {
            let error = io::Error::from_raw_os_error(number.raw_os_error());
            assert_eq!(name_of(&error), name);
            assert!(in_words(&error).contains(remedy), "{}", in_words(&error));
        }
    }

    #[test]
    fn a_known_error_is_named_and_another_is_quoted() {
        let refused = io::Error::from_raw_os_error(Errno::CONNREFUSED.raw_os_error());
        assert_eq!((name_of(&refused), in_words(&refused).as_str()), ("ECONNREFUSED", ""));
        let strange = io::Error::other("something else");
        assert_eq!((name_of(&strange), in_words(&strange).as_str()), ("EIO", " (something else)"));
    }
}
