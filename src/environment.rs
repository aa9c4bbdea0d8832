//! One JavaScript environment (the main thread's, or a worker's): its pending calls, its instances that are in use,
//! and the delivery of what the core answers. Everything here runs on the environment's own thread.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::{Arc, OnceLock};

use napi::bindgen_prelude::{
    FromNapiValue, Function, JsObjectValue, JsValue, Null, Object, ObjectRef, Unknown,
};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Error, Result, Status, sys};
use rustc_hash::FxHashMap;

use crate::core::Request;
use crate::holding::{Holding, Phase};
use crate::instance::{Instance, next_id};
use crate::javascript::{call, count, event_object, failure_object, raw, raw_object};
use crate::mailbox::{Letter, Mailbox};
use crate::outlet::{Answer, CallFailure, Caller, Event, Ticket};
use crate::settings::Settings;

/// How many letters are delivered before the event loop has a turn.
const LARGEST_DELIVERY: usize = 256;

/// How many calls of one environment may be pending. Each takes a few kilobytes; beyond this a program that calls
/// faster than redis answers is told so, rather than growing until the system ends it.
const MOST_CALLS: usize = 250_000;

/// Slots of the array that keeps JavaScript values alive: the two functions of a delivery come first.
const DELIVER: u32 = 0;
const SET_IMMEDIATE: u32 = 1;
const FIRST_FREE: u32 = 2;

/// A weak threadsafe function: it does not keep the event loop alive unless it is referenced.
type Waker = ThreadsafeFunction<(), (), (), Status, false, true>;

/// What a call is, as far as its answer and its cancellation go.
pub enum Kind {
    /// A wait: answers with the key; and how the core finds it.
    Wait(Arc<Settings>, String),
    /// Works on these, which may be over by its answer.
    On(Vec<Arc<Holding>>),
    /// Any other.
    Plain,
}

struct Pending {
    kind: Kind,
    callback: u32,
    instance: Rc<Instance>,
}

/// One environment.
pub struct Environment {
    id: u64,
    mailbox: Arc<Mailbox>,
    /// An array of JavaScript values that must stay alive: callbacks of pending calls, objects of instances in use.
    /// One reference to an array costs less than a reference a value.
    slots: ObjectRef<false>,
    free: RefCell<Vec<u32>>,
    next_slot: Cell<u32>,
    calls: RefCell<FxHashMap<u64, Pending>>,
    next_call: Cell<u64>,
    instances: RefCell<FxHashMap<u64, Rc<Instance>>>,
    waker: Arc<OnceLock<Waker>>,
}

impl Environment {
    /// Sets up an environment: its mailbox, and the function that delivers what is in it.
    pub fn open(env: &Env) -> Result<Rc<Self>> {
        let waker: Arc<OnceLock<Waker>> = Arc::default();
        let bell = Arc::clone(&waker);
        let mailbox = Arc::new(Mailbox::new(Box::new(move || {
            if let Some(waker) = bell.get() {
                // Refused only by an environment that is being torn down.
                waker.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        })));
        let mut slots = env.create_array(0)?.coerce_to_object()?;
        let environment = Rc::new(Self {
            id: next_id(),
            mailbox,
            slots: slots.create_ref::<false>()?,
            free: RefCell::default(),
            next_slot: Cell::new(FIRST_FREE),
            calls: RefCell::default(),
            next_call: Cell::new(1),
            instances: RefCell::default(),
            waker: Arc::clone(&waker),
        });
        let deliver = deliver_function(env, &environment)?;
        let set_immediate: Function = env.get_global()?.get_named_property("setImmediate")?;
        slots.set_element(SET_IMMEDIATE, set_immediate)?;
        let function = deliver.build_threadsafe_function::<()>().weak::<true>().build_callback(|_| Ok(()))?;
        slots.set_element(DELIVER, deliver)?;
        // The cell was made here and is empty.
        let _ = waker.set(function);
        Ok(environment)
    }

    /// The environment has ended: what is pending is forgotten. Gives the request by which the core forgets the rest.
    #[must_use]
    pub fn close(&self) -> Request {
        self.mailbox.close();
        self.calls.borrow_mut().clear();
        self.instances.borrow_mut().clear();
        Request::Leave { environment: self.id }
    }

    /// Notes down a call of an instance. Its object stays alive, and so does the event loop, until it is answered.
    pub fn begin(
        &self,
        env: &Env,
        object: Option<&Object>,
        instance: &Rc<Instance>,
        kind: Kind,
        callback: Function,
    ) -> Result<Ticket> {
        // What is held must always be releasable.
        if !matches!(kind, Kind::On(_)) && self.calls.borrow().len() >= MOST_CALLS {
            let sentence = format!(
                "{MOST_CALLS} calls are waiting for redis already: wait for some of their callbacks before you make more"
            );
            return Err(Error::new(Status::QueueFull, sentence));
        }
        let slots = self.slots.get_value(env)?;
        let slot = self.put(slots, raw(env, callback)?)?;
        let id = self.next_call.get();
        self.next_call.set(id + 1);
        instance.pending.set(instance.pending.get() + 1);
        if let Some(object) = object.filter(|_| instance.slot.get().is_none()) {
            instance.slot.set(Some(self.put(slots, raw_object(object))?));
            self.instances.borrow_mut().insert(instance.id, Rc::clone(instance));
        }
        let mut calls = self.calls.borrow_mut();
        calls.insert(id, Pending { kind, callback: slot, instance: Rc::clone(instance) });
        if calls.len() == 1 {
            self.keep_loop_alive(env, true);
        }
        Ok(Ticket::new(id, self.caller(instance)))
    }

    /// The request that ends a wait before its time, while it has no answer.
    pub fn cancellation(&self, call: u64) -> Option<Request> {
        match &self.calls.borrow().get(&call)?.kind {
            Kind::Wait(settings, resource) => Some(Request::CancelWait {
                settings: Arc::clone(settings),
                resource: resource.clone(),
                environment: self.id,
                call,
            }),
            Kind::On(_) | Kind::Plain => None,
        }
    }

    /// Who calls, for the core.
    fn caller(&self, instance: &Instance) -> Caller {
        let outlet: Arc<Mailbox> = Arc::clone(&self.mailbox);
        Caller { outlet, instance: instance.id, environment: self.id }
    }

    /// Delivers some of what is in the mailbox. True if there is more.
    fn deliver(&self, env: &Env) -> Result<bool> {
        let (letters, more) = self.mailbox.take(LARGEST_DELIVERY);
        for letter in letters {
            env.run_in_scope(|| self.hand_over(env, letter))?;
        }
        Ok(more)
    }

    fn hand_over(&self, env: &Env, letter: Letter) -> Result<()> {
        match letter {
            Letter::Answer { call, answer } => self.answer(env, call, answer),
            Letter::Event { instance, event } => self.tell(env, instance, &event),
            Letter::LinesDropped { instance, count: dropped } => {
                let mut fields = Object::new(env)?;
                fields.set("count", count(dropped))?;
                self.log(env, instance, "log-lines-dropped", &fields).map(drop)
            }
        }
    }

    fn answer(
        &self,
        env: &Env,
        id: u64,
        answer: std::result::Result<Answer, Box<CallFailure>>,
    ) -> Result<()> {
        let Some(Pending { kind, callback, instance }) = self.calls.borrow_mut().remove(&id) else {
            return Ok(());
        };
        let function = self.take(env, callback)?;
        let null = raw(env, Null)?;
        let arguments = match answer {
            Ok(Answer::Acquired(holding)) => {
                let mut arguments = vec![null];
                if !matches!(kind, Kind::Wait(..)) {
                    arguments.push(raw(env, true)?);
                }
                arguments.push(raw(env, holding.key())?);
                arguments.push(raw(env, holding.value())?);
                instance.acquire(holding);
                arguments
            }
            Ok(Answer::Taken { key, holder }) => {
                vec![null, raw(env, false)?, raw(env, &*key)?, raw(env, holder)?]
            }
            Ok(Answer::Released(released)) => vec![null, raw(env, count(released))?],
            Ok(Answer::Renewed) => vec![null],
            Ok(Answer::Disconnected) => vec![null, raw(env, "OK")?],
            Err(failure) => vec![raw_object(&failure_object(env, &failure)?)],
        };
        if let Kind::On(holdings) = &kind {
            for holding in holdings {
                instance.follow(holding);
            }
        }
        call(env, raw(env, ())?, function, &arguments);
        instance.pending.set(instance.pending.get() - 1);
        self.let_go_if_idle(env, &instance)?;
        if self.calls.borrow().is_empty() {
            self.keep_loop_alive(env, false);
        }
        Ok(())
    }

    fn tell(&self, env: &Env, id: u64, event: &Event) -> Result<()> {
        let Some(instance) = self.instances.borrow().get(&id).cloned() else {
            return Ok(());
        };
        if let Event::Lost { holding, .. } | Event::Lapsed { holding } = event {
            instance.follow(holding);
        }
        if let Some((name, fields)) = event_object(env, event)? {
            let told = self.log(env, id, name, &fields)?;
            if let Event::Lost { holding, quiet: true, .. } = event
                && told
            {
                holding.enter(Phase::Over);
                instance.follow(holding);
            }
        }
        self.let_go_if_idle(env, &instance)
    }

    /// Calls the `log` function of an instance. True if it returned `true`.
    fn log(&self, env: &Env, id: u64, name: &str, fields: &Object) -> Result<bool> {
        let slot = self.instances.borrow().get(&id).and_then(|instance| instance.slot.get());
        let Some(slot) = slot else { return Ok(false) };
        let object: Object = self.slots.get_value(env)?.get_element(slot)?;
        let Some(log) = object.get::<Function>("log").ok().flatten() else {
            return Ok(false);
        };
        let returned = call(env, raw_object(&object), raw(env, log)?, &[raw(env, name)?, raw_object(fields)]);
        let Some(returned) = returned else {
            return Ok(false);
        };
        // SAFETY: the value was returned in the scope that is open.
        let told = unsafe { bool::from_napi_value(env.raw(), returned) };
        Ok(told.unwrap_or(false))
    }

    /// An instance that neither holds nor waits may be collected.
    fn let_go_if_idle(&self, env: &Env, instance: &Instance) -> Result<()> {
        if instance.is_in_use() {
            return Ok(());
        }
        if let Some(slot) = instance.slot.take() {
            self.take(env, slot)?;
            self.instances.borrow_mut().remove(&instance.id);
        }
        Ok(())
    }

    /// Keeps a value alive; gives its slot.
    fn put(&self, mut slots: Object, value: sys::napi_value) -> Result<u32> {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let slot = self.next_slot.get();
            self.next_slot.set(slot + 1);
            slot
        });
        set(&mut slots, slot, value)?;
        Ok(slot)
    }

    /// Takes a value out of its slot.
    fn take(&self, env: &Env, slot: u32) -> Result<sys::napi_value> {
        let mut slots = self.slots.get_value(env)?;
        let value: Unknown = slots.get_element(slot)?;
        set(&mut slots, slot, raw(env, ())?)?;
        self.free.borrow_mut().push(slot);
        Ok(value.value().value)
    }

    /// A pending call keeps the event loop alive; nothing else of ours does.
    fn keep_loop_alive(&self, env: &Env, alive: bool) {
        let Some(waker) = self.waker.get() else { return };
        waker.handle.with_read_aborted(|aborted| {
            if !aborted {
                let function = waker.handle.get_raw();
                // SAFETY: called on the environment's thread, with a function that has not been finalized. Neither
                // can fail there.
                unsafe {
                    if alive {
                        sys::napi_ref_threadsafe_function(env.raw(), function);
                    } else {
                        sys::napi_unref_threadsafe_function(env.raw(), function);
                    }
                }
            }
        });
    }
}

fn set(slots: &mut Object, slot: u32, value: sys::napi_value) -> Result<()> {
    // SAFETY: the value belongs to the environment of the array, whose thread runs this.
    slots.set_element(slot, unsafe { Unknown::from_raw_unchecked(slots.value().env, value) })
}

/// The function that Node calls when there are letters: delivers some, and comes again after the event loop had a turn.
fn deliver_function<'env>(env: &'env Env, environment: &Rc<Environment>) -> Result<Function<'env, (), ()>> {
    let environment: Weak<Environment> = Rc::downgrade(environment);
    env.create_function_from_closure("deliver", move |context| {
        let Some(environment) = environment.upgrade() else {
            return Ok(());
        };
        let env = context.env;
        let delivered = catch_unwind(AssertUnwindSafe(|| environment.deliver(env)));
        let more = delivered.unwrap_or_else(|_| {
            Err(Error::from_reason(
                "redis-reservation panicked while it delivered an answer; please report it",
            ))
        })?;
        if more {
            let slots = environment.slots.get_value(env)?;
            let set_immediate: Function<Unknown, Unknown> = slots.get_element(SET_IMMEDIATE)?;
            let deliver: Unknown = slots.get_element(DELIVER)?;
            set_immediate.call(deliver)?;
        }
        Ok(())
    })
}
