//! One JavaScript environment (the main thread's, or a worker's): its pending calls, the reservations that its callers
//! hold, and the delivery of answers and events. All of it runs on the environment's own thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, JsValue, Object, ObjectRef, Unknown};
use napi::{Env, Error, Result, Status, sys};
use rustc_hash::FxHashMap;

use crate::addon::convert::{
    array, bare_event_object, call, count, event_object, failure_object, is_same, isolated, lines_dropped,
    raw, raw_object,
};
use crate::addon::handles::Handles;
use crate::addon::mailbox::{Letter, Mailbox};
use crate::addon::waker::Waker;
use crate::dispatcher::Core;
use crate::dispatcher::request::Request;
use crate::model::answer::{Answer, CallFailure, Caller, Event, Ticket};
use crate::model::error::Error as CoreError;
use crate::model::reservation::{Phase, Reservation};

/// How many letters are delivered before the event loop has a turn.
const MAX_LETTERS_A_DELIVERY: usize = 256;

/// How many calls of one environment may be pending. A program that calls faster than redis answers gets an error
/// beyond this; without it, its memory would grow until the system kills it.
const MAX_PENDING_CALLS: usize = 250_000;

/// Indexes into the array that keeps the JavaScript functions of a delivery alive.
const DELIVER: u32 = 0;
const SET_IMMEDIATE: u32 = 1;
const LISTENER: u32 = 2;

/// The number of a call that JavaScript did not make. JavaScript's own have 32 bits.
const NO_CALL: u64 = u64::MAX;

/// The first of a letter's four values. lib/telling/events.js has the same numbers.
#[derive(Clone, Copy)]
enum Form {
    /// The call, the reservation's number, its value.
    Acquired,
    /// The call, the holder or null.
    Taken,
    /// The call, how many were released.
    Released,
    /// The call.
    Done,
    /// The call, a plain error object; undefined if even that could not be made.
    Failed,
    /// The number of a reservation or of a waiting call, the event's name, its fields.
    Event,
}

/// The four values of a letter.
type LetterValues = [sys::napi_value; 4];

/// One environment.
pub struct Environment {
    /// The number that JavaScript knows it by.
    number: u32,
    core: Core,
    mailbox: Arc<Mailbox>,
    /// How the core knows it.
    caller: Arc<Caller>,
    /// Keeps these JavaScript values alive: an array of functions.
    slots: ObjectRef<false>,
    pending: Cell<usize>,
    /// The reservations that its callers were told of.
    handles: RefCell<Handles>,
    /// The reservations of each pending release, by its call.
    to_free: RefCell<FxHashMap<u64, Vec<Arc<Reservation>>>>,
    waker: Arc<Waker>,
}

impl Environment {
    /// Sets up an environment: its mailbox, and the waker of its thread. The waker calls `deliver` with the
    /// environment's number, and that passes the letters to `listener.deliver`. `listener.set_immediate` is Node's own
    /// `setImmediate`, since tests of callers fake the global one. `listener.resource` tells tools whether calls are
    /// pending.
    pub fn open(env: &Env, core: Core, listener: &Object, deliver: Function<u32, ()>) -> Result<Rc<Self>> {
        // A process has no memory for 2^32 environments.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut slots = env.create_array(0)?.coerce_to_object()?;
        slots.set_element(LISTENER, listener.get_named_property::<Function>("deliver")?)?;
        slots.set_element(SET_IMMEDIATE, listener.get_named_property::<Function>("set_immediate")?)?;
        slots.set_element(DELIVER, deliver)?;
        let slots = slots.create_ref::<false>()?;
        let waker = Waker::open(env, &deliver, number, &listener.get_named_property("resource")?)?;
        let notify = Arc::clone(&waker);
        let mailbox = Arc::new(Mailbox::new(Box::new(move || notify.wake())));
        let sink: Arc<Mailbox> = Arc::clone(&mailbox);
        Ok(Rc::new(Self {
            number,
            core,
            mailbox,
            caller: Arc::new(Caller { sink, environment: u64::from(number) }),
            slots,
            pending: Cell::new(0),
            handles: RefCell::default(),
            to_free: RefCell::default(),
            waker,
        }))
    }

    /// The number that JavaScript knows this environment by.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// True if this listener gets the environment's letters.
    pub fn listens_by(&self, env: &Env, listener: &Object) -> Result<bool> {
        let there: Unknown = self.slots.get_value(env)?.get_element(LISTENER)?;
        let deliver: Unknown = listener.get_named_property("deliver")?;
        Ok(is_same(env, there.value().value, deliver.value().value))
    }

    /// Hands a request to the core.
    pub fn submit(&self, request: Request) {
        self.core.submit(request);
    }

    /// The environment has ended: forgets its pending calls and reservations, here and in the core.
    pub fn close(&self) {
        self.mailbox.close();
        self.waker.close();
        self.handles.borrow_mut().clear();
        self.to_free.borrow_mut().clear();
        self.submit(Request::Leave { environment: self.id() });
    }

    /// Registers a call under JavaScript's number for it. The event loop stays alive until it is answered.
    pub fn begin(&self, env: &Env, call: u64) -> Result<Ticket> {
        if self.pending.get() >= MAX_PENDING_CALLS {
            let sentence = format!(
                "{MAX_PENDING_CALLS} calls are waiting for redis already: wait for some of their callbacks before you make more"
            );
            return Err(Error::new(Status::QueueFull, sentence));
        }
        Ok(self.begin_without_limit(env, call))
    }

    /// The same for a release. It has no limit: see [`Self::begin_without_limit`].
    pub fn begin_release(&self, env: &Env, call: u64, reservations: Vec<Arc<Reservation>>) -> Ticket {
        self.to_free.borrow_mut().insert(call, reservations);
        self.begin_without_limit(env, call)
    }

    /// The same for a call on held reservations. It has no limit: a release or a renewal must be possible however many
    /// calls are pending.
    pub fn begin_without_limit(&self, env: &Env, call: u64) -> Ticket {
        if self.pending.replace(self.pending.get() + 1) == 0 {
            self.waker.keep_loop_alive(env, true);
        }
        Ticket::new(call, Arc::clone(&self.caller))
    }

    /// The number that the core knows this environment by.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.caller.environment
    }

    /// The reservations of these numbers. Numbers that stand for nothing any more are left out.
    pub fn reservations(&self, numbers: &[u32]) -> Vec<Arc<Reservation>> {
        let handles = self.handles.borrow();
        numbers.iter().filter_map(|&number| handles.get(number).cloned()).collect()
    }

    /// The value of a reservation. Also works for one that has ended, until the delivery that tells so has been read.
    pub fn value_of(&self, number: u32) -> Option<String> {
        self.handles.borrow().last_at(number).map(|reservation| reservation.value())
    }

    /// True if all of these are held, and their leases certain at this instant.
    pub fn are_certain(&self, numbers: &[u32]) -> bool {
        let handles = self.handles.borrow();
        numbers.iter().all(|&number| handles.get(number).is_some_and(|reservation| reservation.is_certain()))
    }

    /// Nobody can ask for this reservation any more. If its release had failed, its end is not reported.
    pub fn forget(&self, number: u32) {
        let is_unreleased = |reservation: &&Arc<Reservation>| reservation.phase() == Phase::Unreleased;
        let reservation = self.handles.borrow().get(number).filter(is_unreleased).cloned();
        if let Some(reservation) = reservation {
            self.handles.borrow_mut().remove(&reservation);
        }
    }

    /// A newer reservation has the key of this one. Returns the loss if JavaScript is to tell it now.
    pub fn supersede<'env>(&self, env: &'env Env, number: u32, newer: &str) -> Result<Option<Object<'env>>> {
        let reservation = self.handles.borrow().get(number).cloned();
        let Some((request, loss)) = reservation.and_then(|older| Request::supersede(&older, newer)) else {
            return Ok(None);
        };
        let reservation = Arc::clone(&loss.reservation);
        self.handles.borrow_mut().remove(&reservation);
        self.submit(request);
        let quiet = reservation.settings().terms.never_renews();
        let event = Event::Lost { reservation, loss, quiet };
        // JavaScript must learn of it: nobody else tells it any more.
        let (_, fields) =
            isolated(env, || event_object(env, &event)).or_else(|_| bare_event_object(env, &event))?;
        Ok(Some(fields))
    }

    /// Delivers some letters, and schedules another delivery if there are more, even if this one fails.
    pub fn deliver(&self, env: &Env) -> Result<()> {
        let (letters, more) = self.mailbox.take(MAX_LETTERS_A_DELIVERY);
        let mut values = Vec::with_capacity(4 * letters.len());
        for letter in letters {
            // This fails only in an environment that is ending: nobody is left to be told.
            values.extend(isolated(env, || self.letter_values(env, letter)).into_iter().flatten().flatten());
        }
        let delivered = isolated(env, || self.pass_to_listener(env, &values));
        // A listener that threw may have read only some of the letters.
        match delivered {
            Ok(true) => self.handles.borrow_mut().reuse(),
            _ => self.handles.borrow_mut().abandon(),
        }
        if self.pending.get() == 0 {
            self.waker.keep_loop_alive(env, false);
        }
        if more {
            self.deliver_later(env);
        }
        delivered.map(drop)
    }

    /// Passes the letters to the listener. True if it has read them all.
    fn pass_to_listener(&self, env: &Env, values: &[sys::napi_value]) -> Result<bool> {
        if values.is_empty() {
            return Ok(true);
        }
        let listener: Unknown = self.slots.get_value(env)?.get_element(LISTENER)?;
        Ok(call(env, raw(env, ())?, listener.value().value, &[array(env, values)?]).is_some())
    }

    /// Schedules another delivery. The event loop has a turn first, so that many letters do not hold up its timers and
    /// sockets.
    fn deliver_later(&self, env: &Env) {
        let asked = isolated(env, || {
            let slots = self.slots.get_value(env)?;
            let set_immediate: Function<FnArgs<(Unknown, u32)>, Unknown> =
                slots.get_element(SET_IMMEDIATE)?;
            let deliver: Unknown = slots.get_element(DELIVER)?;
            set_immediate.call(FnArgs::from((deliver, self.number))).map(drop)
        });
        if asked.is_err() {
            // Deliver without a turn of the event loop, rather than not at all.
            self.waker.wake();
        }
    }

    /// A letter as the four values of a delivery; `None` if there is nobody to tell. If the values cannot be made, only
    /// this letter fails: a call is answered with an error, a loss is told without fields, a log line is counted as
    /// dropped.
    fn letter_values(&self, env: &Env, letter: Letter) -> Result<Option<LetterValues>> {
        match letter {
            Letter::Answer { call, answer } => {
                self.pending.set(self.pending.get() - 1);
                if call == NO_CALL {
                    return Ok(None);
                }
                // JavaScript's numbers of calls have 32 bits.
                let number = u32::try_from(call).unwrap_or(u32::MAX);
                let values = isolated(env, || {
                    self.forget_what_is_over(call, &answer);
                    self.answer(env, number, &answer)
                });
                values
                    .or_else(|error| {
                        self.give_back(env, &answer);
                        // The answer may have told an end that JavaScript now does not learn of, so it may use those
                        // numbers again.
                        self.handles.borrow_mut().abandon();
                        let sentence =
                            format!("the answer to a call could not be made a value of JavaScript ({error})");
                        let failure = CoreError::Internal(sentence).into();
                        isolated(env, || self.answer(env, number, &Err(failure)))
                    })
                    .or_else(|_| four_values(env, Form::Failed, number, raw(env, ())?, raw(env, ())?))
                    .map(Some)
            }
            Letter::Event(event) => {
                let Some(number) = self.number_of(&event) else { return Ok(None) };
                if let Event::Lost { reservation, .. } = &event {
                    // A release that was asked for meanwhile tells this loss.
                    if !reservation.tell_loss() {
                        return Ok(None);
                    }
                    self.handles.borrow_mut().remove(reservation);
                }
                let values =
                    isolated(env, || event_object(env, &event).and_then(|of| event_values(env, number, of)));
                values.or_else(|_| event_values(env, number, bare_event_object(env, &event)?)).map(Some)
            }
            Letter::LinesDropped(dropped) => event_values(env, 0, lines_dropped(env, dropped)?).map(Some),
        }
    }

    /// Forgets the reservations whose end this answer tells, and no others. One that ended otherwise is told by a
    /// letter of its own, which may be queued behind this one.
    fn forget_what_is_over(&self, call: u64, answer: &std::result::Result<Answer, Box<CallFailure>>) {
        let mut handles = self.handles.borrow_mut();
        let asked = self.to_free.borrow_mut().remove(&call).unwrap_or_default();
        for reservation in asked.iter().filter(|reservation| reservation.phase() == Phase::Over) {
            handles.remove(reservation);
        }
        for loss in answer.as_ref().err().into_iter().flat_map(|failure| &failure.lost) {
            handles.remove(&loss.reservation);
        }
    }

    fn answer(
        &self,
        env: &Env,
        number: u32,
        answer: &std::result::Result<Answer, Box<CallFailure>>,
    ) -> Result<LetterValues> {
        let nothing = raw(env, ())?;
        let (form, first, second) = match answer {
            Ok(Answer::Acquired(reservation)) => {
                let value = raw(env, reservation.value())?;
                (Form::Acquired, raw(env, self.handles.borrow_mut().add(Arc::clone(reservation)))?, value)
            }
            Ok(Answer::Taken { holder }) => (Form::Taken, raw(env, holder.as_deref())?, nothing),
            Ok(Answer::Released(released)) => (Form::Released, raw(env, count(*released))?, nothing),
            Ok(Answer::Renewed | Answer::Disconnected) => (Form::Done, nothing, nothing),
            Err(failure) => (Form::Failed, raw_object(&failure_object(env, failure)?), nothing),
        };
        four_values(env, form, number, first, second)
    }

    /// Releases a lock that its caller cannot be told of.
    fn give_back(&self, env: &Env, answer: &std::result::Result<Answer, Box<CallFailure>>) {
        let Ok(Answer::Acquired(reservation)) = answer else { return };
        self.handles.borrow_mut().remove(reservation);
        let ticket = self.begin_without_limit(env, NO_CALL);
        self.submit(Request::release(ticket, vec![Arc::clone(reservation)]));
    }

    /// The number that JavaScript knows an event's reservation or call by; `None` if it has none any more.
    fn number_of(&self, event: &Event) -> Option<u32> {
        match event {
            Event::Extended { reservation, .. }
            | Event::ExtendFailed { reservation, .. }
            | Event::Lost { reservation, .. }
            | Event::Lapsed { reservation } => self.handles.borrow().number_of(reservation),
            Event::Outage { call, .. } | Event::Attempted { call, .. } | Event::PollingOnly { call, .. } => {
                u32::try_from(*call).ok()
            }
        }
    }
}

fn four_values(
    env: &Env,
    form: Form,
    number: u32,
    first: sys::napi_value,
    second: sys::napi_value,
) -> Result<LetterValues> {
    Ok([raw(env, form as u32)?, raw(env, number)?, first, second])
}

fn event_values(env: &Env, number: u32, (name, fields): (&str, Object)) -> Result<LetterValues> {
    four_values(env, Form::Event, number, raw(env, name)?, raw_object(&fields))
}
