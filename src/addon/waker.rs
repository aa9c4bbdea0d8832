//! Wakes the thread of one environment from any other thread, and keeps its event loop alive while it is told to: a
//! threadsafe function of Node's, and the lock that no use of it and its end can be under way together by.
//!
//! It is made here and not by napi-rs for the sake of its async resource. By its `hasRef()` a tool that looks for what
//! keeps a process alive, such as `jest --detectOpenHandles`, learns that it does so only while calls are pending.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, PoisonError, RwLock};

use napi::bindgen_prelude::{Function, JsValue, Object};
use napi::{Env, Result, sys};

use crate::addon::convert::{call, check, raw, raw_object};

/// What hooks of Node's know it by.
const NAME: &str = "redis-reservation.deliver";

/// Node's own function, while it has not ended.
struct Threadsafe(sys::napi_threadsafe_function);

// SAFETY: Node lets any thread call it until it has ended. What only the environment's thread may do with it takes an `Env`,
// which no other thread has.
unsafe impl Send for Threadsafe {}
unsafe impl Sync for Threadsafe {}

/// A weak threadsafe function: it keeps the event loop alive only while it is told to.
pub struct Waker {
    /// None from its end on. Read for each use, so that uses do not wait for each other, and written to by its end, which
    /// waits for them. Node never holds a lock of its own when it comes to the end, so none waits for another for ever.
    function: RwLock<Option<Threadsafe>>,
}

impl Waker {
    /// What calls `function` with `number`, on the environment's thread, after each [`Self::wake`] or several.
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
        // SAFETY: called on the environment's thread, with values of its open handle scope. `has_ended` gets back what was
        // taken out of its Arc for it, and `knock` the number.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                env.raw(),
                function.value().value,
                raw_object(resource),
                name,
                0,
                1,
                ended.cast_mut().cast(),
                Some(has_ended),
                number as usize as *mut c_void,
                Some(knock),
                &raw mut made,
            )
        };
        check(status).inspect_err(|_| {
            // SAFETY: where there is no function, nobody gets it back.
            drop(unsafe { Arc::from_raw(ended) });
        })?;
        waker.set(Some(Threadsafe(made)));
        waker.keep_loop_alive(env, false);
        Ok(waker)
    }

    /// From any thread. Of no effect in an environment that has ended.
    pub fn wake(&self) {
        self.with(|function| {
            // SAFETY: it has not ended, and cannot while this runs. It is refused only by one that is about to.
            unsafe {
                sys::napi_call_threadsafe_function(
                    function,
                    null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                );
            }
        });
    }

    /// Whether the event loop is to stay alive.
    pub fn keep_loop_alive(&self, env: &Env, alive: bool) {
        self.with(|function| {
            // SAFETY: it has not ended, and this is the environment's thread. Neither can fail there.
            unsafe {
                if alive {
                    sys::napi_ref_threadsafe_function(env.raw(), function);
                } else {
                    sys::napi_unref_threadsafe_function(env.raw(), function);
                }
            }
        });
    }

    /// The environment ends. Node keeps the function itself for as long as somebody may use it.
    pub fn close(&self) {
        if let Some(Threadsafe(function)) = self.set(None) {
            // SAFETY: it had not ended, this is the thread on which it would, and nobody has it any more.
            unsafe {
                sys::napi_release_threadsafe_function(function, sys::ThreadsafeFunctionReleaseMode::release);
            }
        }
    }

    fn with(&self, work: impl FnOnce(sys::napi_threadsafe_function)) {
        // Nothing panics while it holds the lock, so a poisoned one is as good as any.
        let function = self.function.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Threadsafe(function)) = &*function {
            work(*function);
        }
    }

    /// Gives what was there.
    fn set(&self, function: Option<Threadsafe>) -> Option<Threadsafe> {
        std::mem::replace(&mut *self.function.write().unwrap_or_else(PoisonError::into_inner), function)
    }
}

/// Called by Node on the environment's thread for each time that it was woken, or once for several; with nothing to call
/// where that thread ends.
unsafe extern "C" fn knock(
    env: sys::napi_env,
    function: sys::napi_value,
    number: *mut c_void,
    _nothing: *mut c_void,
) {
    if env.is_null() || function.is_null() {
        return;
    }
    let env = Env::from_raw(env);
    // Both fail only in an environment that ends. The number was one of 32 bits.
    let number = u32::try_from(number as usize).unwrap_or(u32::MAX);
    if let (Ok(nobody), Ok(number)) = (raw(&env, ()), raw(&env, number)) {
        call(&env, nobody, function, &[number]);
    }
}

/// Called by Node on the environment's thread, when the function is about to be no more.
unsafe extern "C" fn has_ended(_env: sys::napi_env, waker: *mut c_void, _number: *mut c_void) {
    // SAFETY: it is what `open` took out of its Arc, and Node gives it back once.
    let waker = unsafe { Arc::from_raw(waker.cast_const().cast::<Waker>()) };
    waker.set(None);
}
