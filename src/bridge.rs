//! The border between Node and the core: the core that is started once, and the environments that use it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

use napi::{Env, Error, Result};

use crate::core::Core;
use crate::environment::Environment;

static CORE: OnceLock<std::result::Result<Core, String>> = OnceLock::new();

thread_local! {
    /// The environments of this thread by their raw pointer. One as a rule; a test runner that loads the addon anew
    /// for each of its sandboxes makes more.
    static ENVIRONMENTS: RefCell<HashMap<usize, Rc<Environment>>> = RefCell::default();
}

/// The core; its thread is started at the first use in the process.
pub fn core() -> Result<&'static Core> {
    let core = CORE.get_or_init(|| Core::start().map_err(|error| error.to_string()));
    core.as_ref()
        .map_err(|error| Error::from_reason(format!("redis-reservation could not start its thread: {error}")))
}

/// The environment that runs this, set up at its first use.
pub fn environment(env: &Env) -> Result<Rc<Environment>> {
    let id = env.raw() as usize;
    if let Some(environment) = ENVIRONMENTS.with_borrow(|all| all.get(&id).cloned()) {
        return Ok(environment);
    }
    let environment = Environment::open(env)?;
    ENVIRONMENTS.with_borrow_mut(|all| all.insert(id, Rc::clone(&environment)));
    env.add_env_cleanup_hook(id, |id| {
        // The thread's own storage may be gone before the last hook runs.
        let ended = ENVIRONMENTS.try_with(|all| all.borrow_mut().remove(&id));
        if let (Ok(Some(environment)), Ok(core)) = (ended, core()) {
            core.submit(environment.close());
        }
    })?;
    Ok(environment)
}
