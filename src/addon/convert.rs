//! Answers, failures and events as JavaScript values. Failures are plain objects; lib/errors.js makes classes of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use napi::bindgen_prelude::{JsValue, Object, ToNapiValue, panic_to_error};
use napi::{Env, Error, Result, Status, sys};

use crate::model::answer::{CallFailure, Event, Loss};
use crate::model::error::Error as CoreError;

/// `{ code, message, key?, val?, holder?, host?, port?, cause?, released?, lost?, failed? }`.
pub fn failure_object<'env>(env: &'env Env, failure: &CallFailure) -> Result<Object<'env>> {
    let mut object = error_object(env, &failure.error)?;
    if !failure.lost.is_empty() {
        object.set("lost", keys(failure.lost.iter().map(|loss| loss.reservation.key())))?;
    }
    if let Some(released) = failure.released {
        object.set("released", count(released))?;
        object.set("lost", keys(failure.lost.iter().map(|loss| loss.reservation.key())))?;
        object.set("failed", keys(failure.failed.iter().map(|key| &**key)))?;
    }
    Ok(object)
}

/// The fields of the error itself.
pub fn error_object<'env>(env: &'env Env, error: &CoreError) -> Result<Object<'env>> {
    let mut object = Object::new(env)?;
    object.set("code", error.code())?;
    object.set("message", error.to_string())?;
    if let Some(key) = error.key() {
        object.set("key", key)?;
    }
    match error {
        CoreError::Lost { value, holder, .. } => {
            object.set("val", value)?;
            if let Some(holder) = holder {
                object.set("holder", holder)?;
            }
        }
        CoreError::Connection { detail, reason, .. } => {
            let mut cause = Object::new(env)?;
            cause.set("code", *reason)?;
            cause.set("message", detail)?;
            object.set("cause", cause)?;
        }
        CoreError::Shortage { text, reason, .. } => {
            let mut cause = Object::new(env)?;
            cause.set("code", *reason)?;
            cause.set("message", text)?;
            object.set("cause", cause)?;
        }
        CoreError::Reply { text, .. } | CoreError::Denied { text, .. } => {
            let mut cause = Object::new(env)?;
            cause.set("code", text.split(' ').next().unwrap_or_default())?;
            cause.set("message", text)?;
            object.set("cause", cause)?;
        }
        _ => {}
    }
    if let Some((host, port)) = error.address() {
        object.set("host", host)?;
        object.set("port", u32::from(port))?;
    }
    Ok(object)
}

/// An event as its name and its fields, in the order in which a log line shows them.
pub fn event_object<'env>(env: &'env Env, event: &Event) -> Result<(&'static str, Object<'env>)> {
    let mut fields = Object::new(env)?;
    let name = match event {
        Event::Extended { reservation, ttl } => {
            fields.set("key", reservation.key())?;
            fields.set("duration", format!("{}s", ttl.as_secs_f64()))?;
            fields.set("val", reservation.value())?;
            "reservation-extended"
        }
        Event::ExtendFailed { reservation, error } => {
            fields.set("err", error_object(env, error)?)?;
            fields.set("key", reservation.key())?;
            "expire-set-failed"
        }
        Event::Outage { host, port, error, .. } => {
            fields.set("host", host)?;
            fields.set("port", u32::from(*port))?;
            fields.set("err", error_object(env, error)?)?;
            "redis-error"
        }
        Event::Attempted { key, holder, .. } => {
            fields.set("key", &**key)?;
            fields.set("holder", holder.as_deref())?;
            "reservation-attempt"
        }
        Event::PollingOnly { endpoint, reason, .. } => {
            fields.set("endpoint", endpoint)?;
            fields.set("reason", reason)?;
            "waiting-by-polling"
        }
        Event::Lost { loss, quiet, .. } => {
            fields.set("key", loss.reservation.key())?;
            fields.set("val", loss.reservation.value())?;
            fields.set("holder", loss.holder.as_deref())?;
            fields.set("message", Loss::to_error(loss).to_string())?;
            fields.set("quiet", *quiet)?;
            "reservation-lost"
        }
        Event::Lapsed { .. } => "reservation-lapsed",
    };
    Ok((name, fields))
}

/// The fallback for an event whose fields cannot be made: a loss is told without them, a log line is counted as
/// dropped.
pub fn bare_event_object<'env>(env: &'env Env, event: &Event) -> Result<(&'static str, Object<'env>)> {
    let Event::Lost { quiet, .. } = event else { return lines_dropped(env, 1) };
    let mut fields = Object::new(env)?;
    fields.set("quiet", *quiet)?;
    Ok(("reservation-lost", fields))
}

/// The event that tells how many log lines were dropped.
pub fn lines_dropped(env: &Env, dropped: usize) -> Result<(&'static str, Object<'_>)> {
    let mut fields = Object::new(env)?;
    fields.set("count", count(dropped))?;
    Ok(("log-lines-dropped", fields))
}

/// As a number of JavaScript; saturates at 2^32 - 1.
pub fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A value as the raw one that N-API functions take.
pub fn raw<T: ToNapiValue>(env: &Env, value: T) -> Result<sys::napi_value> {
    // SAFETY: the environment is the one whose thread runs this.
    unsafe { T::to_napi_value(env.raw(), value) }
}

/// Calls a function from the top of the stack. An exception that it throws becomes an uncaught exception of the
/// process, as if Node had called it; this function returns `None`.
pub fn call(
    env: &Env,
    receiver: sys::napi_value,
    function: sys::napi_value,
    arguments: &[sys::napi_value],
) -> Option<sys::napi_value> {
    let mut returned = std::ptr::null_mut();
    // SAFETY: all values belong to the handle scope that the caller has open.
    unsafe {
        let status = sys::napi_call_function(
            env.raw(),
            receiver,
            function,
            arguments.len(),
            arguments.as_ptr(),
            &raw mut returned,
        );
        if status == sys::Status::napi_ok {
            return Some(returned);
        }
        if status == sys::Status::napi_pending_exception
            && let Some(exception) = take_exception(env)
        {
            sys::napi_fatal_exception(env.raw(), exception);
        }
    }
    None
}

/// Takes the pending exception: every later call into JavaScript would fail while it is pending. `None` while the
/// environment is torn down, when nobody is left to be told.
fn take_exception(env: &Env) -> Option<sys::napi_value> {
    let mut exception = std::ptr::null_mut();
    // SAFETY: the environment is the one whose thread runs this.
    let status = unsafe { sys::napi_get_and_clear_last_exception(env.raw(), &raw mut exception) };
    (status == sys::Status::napi_ok).then_some(exception)
}

/// Runs `work`, and keeps its failure to it: a panic becomes an error, and an exception that it left pending is
/// cleared.
pub fn isolated<T>(env: &Env, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_panic(work).inspect_err(|_| drop_exception(env))
}

/// Runs `work`; a panic becomes an error.
pub fn catch_panic<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_to_error(panic)))
}

/// Clears a pending exception. The error of the native call says what it was.
fn drop_exception(env: &Env) {
    let mut is_pending = false;
    // SAFETY: the environment is the one whose thread runs this.
    let status = unsafe { sys::napi_is_exception_pending(env.raw(), &raw mut is_pending) };
    if status == sys::Status::napi_ok && is_pending {
        take_exception(env);
    }
}

/// Throws a failure as a plain object, the same as in answers. Returns what an export must return after it has thrown.
pub fn throw(env: &Env, failure: CoreError) -> Error {
    let thrown = failure_object(env, &Box::from(failure)).and_then(|object| {
        // SAFETY: the object was made here.
        check(unsafe { sys::napi_throw(env.raw(), raw_object(&object)) })
    });
    thrown.err().unwrap_or_else(|| Error::from_status(Status::PendingException))
}

/// The raw value of an object.
pub fn raw_object(object: &Object) -> sys::napi_value {
    object.value().value
}

/// A JavaScript array of these values.
pub fn array(env: &Env, values: &[sys::napi_value]) -> Result<sys::napi_value> {
    let mut array = std::ptr::null_mut();
    // SAFETY: the environment is the one whose thread runs this, and the values are of its open handle scope.
    unsafe {
        check(sys::napi_create_array_with_length(env.raw(), values.len(), &raw mut array))?;
        for (index, &value) in (0..).zip(values) {
            check(sys::napi_set_element(env.raw(), array, index, value))?;
        }
    }
    Ok(array)
}

/// True if both are the same value (`===`).
pub fn is_same(env: &Env, one: sys::napi_value, other: sys::napi_value) -> bool {
    let mut is_same = false;
    // SAFETY: the environment is the one whose thread runs this.
    let status = unsafe { sys::napi_strict_equals(env.raw(), one, other, &raw mut is_same) };
    status == sys::Status::napi_ok && is_same
}

/// Makes an error of a status that is not OK.
pub fn check(status: sys::napi_status) -> Result<()> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(Error::from_status(Status::from(status))) }
}

fn keys<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<String> {
    keys.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_what_panicked() {
        let caught = catch_panic(|| -> Result<()> { panic!("a fault of this library") });
        assert!(caught.is_err_and(|error| error.reason.contains("a fault of this library")));
    }
}
