//! The border between Node and the core: the core that is started once, and the environments that use it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

use napi::bindgen_prelude::Function;
use napi::{Env, Error, Result};

use crate::core::Core;
use crate::environment::Environment;

static CORE: OnceLock<std::result::Result<Core, String>> = OnceLock::new();

thread_local! {
    /// The environments of this thread by their raw pointer. One as a rule; a test runner that loads the addon anew
    /// for each of its sandboxes makes more, and so does one that loads the face anew, whose listener is another.
    static ENVIRONMENTS: RefCell<HashMap<usize, Vec<Rc<Environment>>>> = RefCell::default();
}

/// The core; its thread is started at the first use in the process.
pub fn core() -> Result<&'static Core> {
    let core = CORE.get_or_init(|| Core::start().map_err(|error| error.to_string()));
    core.as_ref()
        .map_err(|error| Error::from_reason(format!("redis-reservation could not start its thread: {error}")))
}

/// The environment that runs this and whose letters go to `listener`, set up at its first use. Without a listener any
/// environment will do.
pub fn environment(env: &Env, listener: Option<&Function>) -> Result<Rc<Environment>> {
    let id = env.raw() as usize;
    let there = ENVIRONMENTS.with_borrow(|all| all.get(&id).cloned());
    for environment in there.iter().flatten() {
        if listener.map_or(Ok(true), |listener| environment.listens_by(env, listener))? {
            return Ok(Rc::clone(environment));
        }
    }
    let environment = Environment::open(env)?;
    if let Some(listener) = listener {
        environment.listens_by(env, listener)?;
    }
    ENVIRONMENTS.with_borrow_mut(|all| all.entry(id).or_default().push(Rc::clone(&environment)));
    if there.is_some() {
        return Ok(environment);
    }
    env.add_env_cleanup_hook(id, |id| {
        // The thread's own storage may be gone before the last hook runs.
        let ended = ENVIRONMENTS.try_with(|all| all.borrow_mut().remove(&id));
        if let (Ok(ended), Ok(core)) = (ended, core()) {
            ended.iter().flatten().for_each(|environment| core.submit(environment.close()));
        }
    })?;
    Ok(environment)
}
