//! The entry points of Node: starts the core once, and sets up each environment at its first use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Object, retain_current_module_for_unload_safety};
use napi::{Env, Result};
use napi_derive::napi;

use crate::addon::convert::{catch_panic, throw};
use crate::addon::environment::Environment;
use crate::dispatcher::Core;
use crate::model::error::Error as CoreError;

static CORE: Mutex<Option<Core>> = Mutex::new(None);

thread_local! {
    /// The environments of this thread, by their raw pointer. Usually one. A test runner that loads the addon again for
    /// each sandbox makes more. So does loading lib/ again, which has a listener of its own.
    static ENVIRONMENTS: RefCell<HashMap<usize, Vec<Rc<Environment>>>> = RefCell::default();
}

/// The core. Its thread is started at the first use in the process. A failure is not kept: the system may have what it
/// needs by the next call.
fn core() -> std::result::Result<Core, CoreError> {
    // The value is set in one step, so a poisoned lock has a good one.
    let mut core = CORE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(core) = &*core {
        return Ok(core.clone());
    }
    // The thread outlives the environment that loaded this addon, so its code must stay loaded.
    retain_current_module_for_unload_safety();
    let started = Core::start().map_err(|error| CoreError::of_the_system(&error))?;
    Ok(core.insert(started).clone())
}

/// The environment that runs this and whose letters `listener` gets. Set up at its first use.
pub fn environment(env: &Env, listener: &Object) -> Result<Rc<Environment>> {
    let id = env.raw() as usize;
    let there = ENVIRONMENTS.with_borrow(|all| all.get(&id).cloned());
    for environment in there.iter().flatten() {
        if environment.listens_by(env, listener)? {
            return Ok(Rc::clone(environment));
        }
    }
    let core = core().map_err(|failure| throw(env, failure))?;
    let deliver = env.create_function("deliver", deliver_c_callback)?;
    let environment = Environment::open(env, core, listener, deliver)?;
    ENVIRONMENTS.with_borrow_mut(|all| all.entry(id).or_default().push(Rc::clone(&environment)));
    if there.is_some() {
        return Ok(environment);
    }
    env.add_env_cleanup_hook(id, |id| {
        // Thread-local storage may be gone before the last hook runs.
        let ended = ENVIRONMENTS.try_with(|all| all.borrow_mut().remove(&id));
        ended.iter().flatten().flatten().for_each(|environment| environment.close());
    })?;
    Ok(environment)
}

/// Node calls this when the environment of this number has letters.
#[napi(no_export)]
#[allow(dead_code, reason = "called from JavaScript alone")]
fn deliver(env: &Env, number: u32) -> Result<()> {
    let id = env.raw() as usize;
    let is_meant = |environment: &&Rc<Environment>| environment.number() == number;
    let environment = ENVIRONMENTS.with_borrow(|all| all.get(&id)?.iter().find(is_meant).cloned());
    environment.map_or(Ok(()), |environment| catch_panic(|| environment.deliver(env)))
}
