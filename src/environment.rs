//! One JavaScript environment (the main thread's, or a worker's): how many of its calls are pending, what its callers
//! hold, and the delivery of what the core answers. Everything here runs on the environment's own thread.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use napi::bindgen_prelude::{Function, JsObjectValue, JsValue, Null, Object, ObjectRef, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Error, Result, Status, sys};
use rustc_hash::FxHashMap;

use crate::core::Request;
use crate::handles::Handles;
use crate::holding::{Holding, Phase};
use crate::javascript::{array, call, count, event_object, failure_object, is_same, raw, raw_object};
use crate::mailbox::{Letter, Mailbox};
use crate::outlet::{Answer, CallFailure, Caller, Event, Ticket};

/// How many letters are delivered before the event loop has a turn.
const LARGEST_DELIVERY: usize = 256;

/// How many calls of one environment may be pending. Beyond this a program that calls faster than redis answers is told
/// so, rather than growing until the system ends it.
const MOST_CALLS: usize = 250_000;

/// Slots of the array that keeps JavaScript values alive: the functions of a delivery come first.
const DELIVER: u32 = 0;
const SET_IMMEDIATE: u32 = 1;
const LISTENER: u32 = 2;
const FIRST_FREE: u32 = 3;

/// Numbers of calls from here on are not the listener's: the rest is the slot of a function that gets the answer.
const WITH_CALLBACK: u64 = 1 << 32;

/// What is in the first place of each letter's four, as lib/events.js knows it.
#[derive(Clone, Copy)]
enum Form {
    /// The call, the number of the reservation, its value.
    Acquired,
    /// The call, the holder or null.
    Taken,
    /// The call, how many.
    Released,
    /// The call.
    Done,
    /// The call, a plain error.
    Failed,
    /// The number of a reservation or of a waiting call, the event's name, its fields.
    Event,
}

/// A weak threadsafe function: it does not keep the event loop alive unless it is referenced.
type Waker = ThreadsafeFunction<(), (), (), Status, false, true>;

/// One environment.
pub struct Environment {
    mailbox: Arc<Mailbox>,
    /// What the core knows it by.
    caller: Arc<Caller>,
    /// An array of JavaScript values that must stay alive. One reference to an array costs less than a reference a value.
    slots: ObjectRef<false>,
    has_listener: Cell<bool>,
    next_slot: Cell<u32>,
    free_slots: RefCell<Vec<u32>>,
    pending: Cell<usize>,
    /// What its callers hold, as far as they have been told.
    handles: RefCell<Handles>,
    /// What pending releases are to free.
    to_free: RefCell<FxHashMap<u64, Vec<Arc<Holding>>>>,
    waker: Arc<OnceLock<Waker>>,
}

impl Environment {
    /// Sets up an environment: its mailbox, and the function that delivers what is in it.
    pub fn open(env: &Env) -> Result<Rc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let waker: Arc<OnceLock<Waker>> = Arc::default();
        let bell = Arc::clone(&waker);
        let mailbox = Arc::new(Mailbox::new(Box::new(move || {
            if let Some(waker) = bell.get() {
                // Refused only by an environment that is being torn down.
                waker.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        })));
        let mut slots = env.create_array(0)?.coerce_to_object()?;
        let outlet: Arc<Mailbox> = Arc::clone(&mailbox);
        let environment = Rc::new(Self {
            mailbox,
            caller: Arc::new(Caller { outlet, environment: NEXT.fetch_add(1, Ordering::Relaxed) }),
            slots: slots.create_ref::<false>()?,
            has_listener: Cell::new(false),
            next_slot: Cell::new(FIRST_FREE),
            free_slots: RefCell::default(),
            pending: Cell::new(0),
            handles: RefCell::default(),
            to_free: RefCell::default(),
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

    /// True if letters go to this function, which they do from now on if they went to none.
    pub fn listens_by(&self, env: &Env, listener: &Function) -> Result<bool> {
        let mut slots = self.slots.get_value(env)?;
        let listener = listener.value().value;
        if !self.has_listener.replace(true) {
            set(&mut slots, LISTENER, listener)?;
            return Ok(true);
        }
        let there: Unknown = slots.get_element(LISTENER)?;
        Ok(is_same(env, there.value().value, listener))
    }

    /// The environment has ended: what is pending is forgotten. Gives the request by which the core forgets the rest.
    #[must_use]
    pub fn close(&self) -> Request {
        self.mailbox.close();
        self.handles.borrow_mut().clear();
        self.to_free.borrow_mut().clear();
        Request::Leave { environment: self.id() }
    }

    /// Notes down a call, under the number that JavaScript knows it by. The event loop stays alive until
    /// it is answered.
    pub fn begin(&self, env: &Env, call: u64) -> Result<Ticket> {
        if self.pending.get() >= MOST_CALLS {
            let sentence = format!(
                "{MOST_CALLS} calls are waiting for redis already: wait for some of their callbacks before you make more"
            );
            return Err(Error::new(Status::QueueFull, sentence));
        }
        Ok(self.begin_without_limit(env, call))
    }

    /// The same for a release.
    pub fn begin_release(&self, env: &Env, call: u64, holdings: Vec<Arc<Holding>>) -> Ticket {
        self.to_free.borrow_mut().insert(call, holdings);
        self.begin_without_limit(env, call)
    }

    /// The same for a call whose answer goes to a function of its own: `callback(err, reply)`.
    pub fn begin_with_callback(&self, env: &Env, callback: Function) -> Result<Ticket> {
        let free = self.free_slots.borrow_mut().pop();
        let slot = free.unwrap_or_else(|| self.next_slot.replace(self.next_slot.get() + 1));
        set(&mut self.slots.get_value(env)?, slot, callback.value().value)?;
        Ok(self.begin_without_limit(env, WITH_CALLBACK + u64::from(slot)))
    }

    /// The same for a call on what is held: that must be possible however many others are pending.
    pub fn begin_without_limit(&self, env: &Env, call: u64) -> Ticket {
        if self.pending.replace(self.pending.get() + 1) == 0 {
            self.keep_loop_alive(env, true);
        }
        Ticket::new(call, Arc::clone(&self.caller))
    }

    /// The number that the core knows this environment by.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.caller.environment
    }

    /// What the numbers stand for; without those that stand for nothing any more.
    pub fn holdings(&self, numbers: &[u32]) -> Vec<Arc<Holding>> {
        let handles = self.handles.borrow();
        numbers.iter().filter_map(|&number| handles.get(number).cloned()).collect()
    }

    /// What redis has in the key of what a number stands for, or stood for until the delivery that is being read.
    pub fn value_of(&self, number: u32) -> Option<String> {
        self.handles.borrow().last_at(number).map(|holding| holding.value())
    }

    /// True if all of them stand for what is held, and certain at this very instant.
    pub fn are_certain(&self, numbers: &[u32]) -> bool {
        let handles = self.handles.borrow();
        numbers.iter().all(|&number| handles.get(number).is_some_and(|holding| holding.is_certain()))
    }

    /// Nobody can ask for this any more: what was to be told of it is told to nobody.
    pub fn forget(&self, number: u32) {
        let is_unreleased = |holding: &&Arc<Holding>| holding.phase() == Phase::Unreleased;
        let holding = self.handles.borrow().get(number).filter(is_unreleased).cloned();
        if let Some(holding) = holding {
            self.handles.borrow_mut().remove(&holding);
        }
    }

    /// Delivers some of what is in the mailbox. True if there is more.
    fn deliver(&self, env: &Env) -> Result<bool> {
        let (letters, more) = self.mailbox.take(LARGEST_DELIVERY);
        let mut places = Vec::with_capacity(4 * letters.len());
        for letter in letters {
            self.lay_out(env, letter, &mut places)?;
        }
        if !places.is_empty() {
            let listener: Unknown = self.slots.get_value(env)?.get_element(LISTENER)?;
            call(env, raw(env, ())?, listener.value().value, &[array(env, &places)?]);
        }
        self.handles.borrow_mut().reuse();
        if self.pending.get() == 0 {
            self.keep_loop_alive(env, false);
        }
        Ok(more)
    }

    /// Puts one letter into the places of a delivery.
    fn lay_out(&self, env: &Env, letter: Letter, places: &mut Vec<sys::napi_value>) -> Result<()> {
        let (form, number, first, second) = match letter {
            Letter::Answer { call, answer } => {
                self.pending.set(self.pending.get() - 1);
                if call >= WITH_CALLBACK {
                    return self.call_back(env, call - WITH_CALLBACK, answer);
                }
                self.forget_what_is_over(call, &answer);
                let laid_out = self.answer(env, answer)?;
                // The listener's numbers are small.
                let number = u32::try_from(call).unwrap_or(u32::MAX);
                (laid_out.0, number, laid_out.1, laid_out.2)
            }
            Letter::Event(event) => {
                let Some(number) = self.number_of(&event) else { return Ok(()) };
                if let Event::Lost { holding, .. } = &event {
                    // A release that was asked for meanwhile tells it.
                    if !holding.tell_loss() {
                        return Ok(());
                    }
                    self.handles.borrow_mut().remove(holding);
                }
                let (name, fields) = event_object(env, &event)?;
                (Form::Event, number, raw(env, name)?, raw_object(&fields))
            }
            Letter::LinesDropped(dropped) => {
                let mut fields = Object::new(env)?;
                fields.set("count", count(dropped))?;
                (Form::Event, 0, raw(env, "log-lines-dropped")?, raw_object(&fields))
            }
        };
        places.extend([raw(env, form as u32)?, raw(env, number)?, first, second]);
        Ok(())
    }

    /// Forgets what an answer tells the end of, and nothing else: what ended by itself is told by a letter of its own,
    /// which may lie behind this one.
    fn forget_what_is_over(&self, call: u64, answer: &std::result::Result<Answer, Box<CallFailure>>) {
        let mut handles = self.handles.borrow_mut();
        let asked = self.to_free.borrow_mut().remove(&call).unwrap_or_default();
        for holding in asked.iter().filter(|holding| holding.phase() == Phase::Over) {
            handles.remove(holding);
        }
        for loss in answer.as_ref().err().into_iter().flat_map(|failure| &failure.lost) {
            handles.remove(&loss.holding);
        }
    }

    fn answer(
        &self,
        env: &Env,
        answer: std::result::Result<Answer, Box<CallFailure>>,
    ) -> Result<(Form, sys::napi_value, sys::napi_value)> {
        let nothing = raw(env, ())?;
        Ok(match answer {
            Ok(Answer::Acquired(holding)) => {
                let value = raw(env, holding.value())?;
                (Form::Acquired, raw(env, self.handles.borrow_mut().add(holding))?, value)
            }
            Ok(Answer::Taken { holder }) => (Form::Taken, raw(env, holder)?, nothing),
            Ok(Answer::Released(released)) => (Form::Released, raw(env, count(released))?, nothing),
            Ok(Answer::Renewed | Answer::Disconnected) => (Form::Done, nothing, nothing),
            Err(failure) => (Form::Failed, raw_object(&failure_object(env, &failure)?), nothing),
        })
    }

    fn call_back(
        &self,
        env: &Env,
        slot: u64,
        answer: std::result::Result<Answer, Box<CallFailure>>,
    ) -> Result<()> {
        let mut slots = self.slots.get_value(env)?;
        // It was made from a slot's number.
        let slot = u32::try_from(slot).unwrap_or_default();
        let callback: Unknown = slots.get_element(slot)?;
        set(&mut slots, slot, raw(env, ())?)?;
        self.free_slots.borrow_mut().push(slot);
        let arguments = match answer {
            Ok(_) => vec![raw(env, Null)?, raw(env, "OK")?],
            Err(failure) => vec![raw_object(&failure_object(env, &failure)?)],
        };
        call(env, raw(env, ())?, callback.value().value, &arguments);
        Ok(())
    }

    /// The number that JavaScript knows an event's subject by, while it does.
    fn number_of(&self, event: &Event) -> Option<u32> {
        match event {
            Event::Extended { holding, .. }
            | Event::ExtendFailed { holding, .. }
            | Event::Lost { holding, .. }
            | Event::Lapsed { holding } => self.handles.borrow().number_of(holding),
            Event::Outage { call, .. } | Event::Attempted { call, .. } | Event::PollingOnly { call, .. } => {
                u32::try_from(*call).ok()
            }
        }
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
