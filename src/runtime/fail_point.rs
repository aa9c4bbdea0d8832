//! Places at which tests make the core panic. In the shipped build [`fail_point!`] expands to nothing.

/// Panics if a test has armed this place for this subject; once for each arming.
macro_rules! fail_point {
    ($place:expr, $subject:expr) => {
        #[cfg(test)]
        if crate::runtime::fail_point::is_any_armed() {
            crate::runtime::fail_point::reach($place, $subject.as_ref());
        }
    };
}

#[cfg(test)]
static ARMED: std::sync::Mutex<Vec<(&str, String)>> = std::sync::Mutex::new(Vec::new());

#[cfg(test)]
thread_local! {
    static IGNORED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// If true, no fail point of this thread is reached: what other tests have armed is not meant for it.
#[cfg(test)]
pub fn ignore(ignored: bool) {
    IGNORED.set(ignored);
}

/// True if any place is armed.
#[cfg(test)]
#[must_use]
pub fn is_any_armed() -> bool {
    !IGNORED.get() && !lock().is_empty()
}

/// Arms a place for one subject: a resource, a key, an endpoint. Tests that run at the same time use other subjects.
#[cfg(test)]
pub fn arm(place: &'static str, subject: &str) {
    lock().push((place, subject.to_owned()));
}

/// Removes every arming for a subject.
#[cfg(test)]
pub fn disarm(subject: &str) {
    lock().retain(|(_, of)| of != subject);
}

#[cfg(test)]
/// What [`fail_point!`] calls.
///
/// # Panics
/// If the place is armed for the subject.
pub fn reach(place: &str, subject: &str) {
    let armed = {
        let mut all = lock();
        let found = all.iter().position(|(name, of)| *name == place && of == subject);
        found.map(|index| all.swap_remove(index))
    };
    assert!(armed.is_none(), "fail point {place} of {subject}");
}

/// True once every arming for this subject has fired.
#[cfg(test)]
#[must_use]
pub fn is_used_up(subject: &str) -> bool {
    lock().iter().all(|(_, of)| of != subject)
}

#[cfg(test)]
fn lock() -> std::sync::MutexGuard<'static, Vec<(&'static str, String)>> {
    ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
