//! Wakes the thread of one environment from any thread, and keeps its event loop alive while calls are pending. It is a
//! threadsafe function of Node's, with a lock so that no use of it overlaps with its end.
//!
//! It is made here and not by napi-rs for the sake of its async resource, which has `hasRef()`. A tool that looks for
//! what keeps a process alive, such as `jest --detectOpenHandles`, learns from that whether calls are pending.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, PoisonError, RwLock};

use napi::bindgen_prelude::{Function, JsValue, Object};
use napi::{Env, Result, sys};

use crate::addon::convert::{call, check, raw, raw_object};

/// The name that async hooks see.
const NAME: &str = "redis-reservation.deliver";

/// Node's handle of the function, valid until it has ended.
struct Threadsafe(sys::napi_threadsafe_function);

// SAFETY: Node lets any thread call it until it has ended. What only the environment's thread may do with it takes an
// `Env`, which no other thread has.
unsafe impl Send for Threadsafe {}
unsafe impl Sync for Threadsafe {}

/// A weak threadsafe function: by default it does not keep the event loop alive.
pub struct Waker {
    /// `None` after its end. Each use takes the lock for reading, so uses do not wait for each other. Its end takes it for
    /// writing, so it waits for uses. Node holds no lock of its own at that point, so there is no deadlock.
    function: RwLock<Option<Threadsafe>>,
}

impl Waker {
    /// Calls `function` with `number` on the environment's thread: once after each [`Self::wake`], or once for several.
    pub fn open(
        env: &Env,
        function: &Function<u32, ()>,
        number: u32,
        resource: &Object,
    ) -> Result<Arc<Self>> {
        let waker = Arc::new(Self { function: RwLock::new(None) });
        let mut made = null_mut();
        let name = raw(env, NAME)?;
        let ended = Arc::into_raw(Arc::clone(&waker));
        // SAFETY: called on the environment's thread, with values of its open handle scope. `finalize` gets the
        // reference that was taken out of the Arc, and `call_deliver` gets the number.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                function.value().value,
                raw_object(resource),
                name,
                0,
                1,
                ended.cast_mut().cast(),
                Some(finalize),
                number as usize as *mut c_void,
                Some(call_deliver),
                &raw mut made,
            )
        };
        check(status).inspect_err(|_| {
            // SAFETY: the function was not made, so nobody else gives this reference back.
            drop(unsafe { Arc::from_raw(ended) });
        })?;
        waker.set(Some(Threadsafe(made)));
        waker.keep_loop_alive(env, false);
        Ok(waker)
    }

    /// Wakes the thread, from any thread. Does nothing in an environment that has ended.
    pub fn wake(&self) {
        self.with(|function| {
            // SAFETY: it has not ended, and cannot while this runs. The call fails only if it is about to end.
            unsafe {
                sys::napi_call_threadsafe_function(
                    function,
                    null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                );
            }
        });
    }

    /// Sets whether it keeps the event loop alive.
    pub fn keep_loop_alive(&self, env: &Env, alive: bool) {
        self.with(|function| {
            // SAFETY: it has not ended, and this is the environment's thread. Neither call can fail there.
            unsafe {
                if alive {
                    sys::napi_ref_threadsafe_function(env.raw(), function);
                } else {
                    sys::napi_unref_threadsafe_function(env.raw(), function);
                }
            }
        });
    }

    /// The environment ends. Node frees the function when nobody can use it any more.
    pub fn close(&self) {
        if let Some(Threadsafe(function)) = self.set(None) {
            // SAFETY: it had not ended, this is its environment's thread, and nobody has it any more.
            unsafe {
                sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::release);
            }
        }
    }

    fn with(&self, work: impl FnOnce(sys::napi_threadsafe_function)) {
        // Nothing panics while it holds the lock, so a poisoned one has a good value.
        let function = self.function.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Threadsafe(function)) = &*function {
            work(*function);
        }
    }

    /// Returns the old value.
    fn set(&self, function: Option<Threadsafe>) -> Option<Threadsafe> {
        std::mem::replace(&mut *self.function.write().unwrap_or_else(PoisonError::into_inner), function)
    }
}

/// Node calls this on the environment's thread: once for each wake, or once for several. The function is null while the
/// environment ends.
unsafe extern "C" fn call_deliver(
    env: sys::napi_env,
    function: sys::napi_value,
    number: *mut c_void,
    _nothing: *mut c_void,
) {
    if env.is_null() || function.is_null() {
        return;
    }
    let env = Env::from_raw(env);
    // Both fail only in an environment that is ending. The number has 32 bits.
    let number = u32::try_from(number as usize).unwrap_or(u32::MAX);
    if let (Ok(nobody), Ok(number)) = (raw(&env, ()), raw(&env, number)) {
        call(&env, nobody, function, &[number]);
    }
}

/// Node calls this on the environment's thread just before it frees the function.
unsafe extern "C" fn finalize(_env: sys::napi_env, waker: *mut c_void, _number: *mut c_void) {
    // SAFETY: this is the reference that `open` took out of its Arc, and Node gives it back once.
    let waker = unsafe { Arc::from_raw(waker.cast_const().cast::<Waker>()) };
    waker.set(None);
}
