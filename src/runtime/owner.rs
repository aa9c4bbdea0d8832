//! Whose task it is. A process has one core, so in what is shipped this is nothing. The simulation runs several processes
//! on one thread: there a task that is not started by the core's own executor has to know to which it belongs.

#[cfg(not(test))]
pub use shipped::Owner;
#[cfg(test)]
pub use simulated::{Owner, Processes, simulate};

#[cfg(not(test))]
mod shipped {
    /// The one process.
    #[derive(Clone, Copy, Debug)]
    pub struct Owner;

    impl Owner {
        /// Whose code runs.
        #[must_use]
        pub fn current() -> Self {
            Self
        }

        /// The same future.
        pub fn owns<Task: Future>(self, task: Task) -> Task {
            task
        }
    }
}

#[cfg(test)]
mod simulated {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    /// What the simulation says of processes.
    #[derive(Clone, Copy)]
    pub struct Processes {
        /// Whose code runs.
        pub current: fn() -> usize,
        /// Has the code of a process run from here on; false if it is stopped. Then it wakes the task later.
        pub enter: fn(usize, &mut Context<'_>) -> bool,
    }

    thread_local! {
        static PROCESSES: Cell<Option<Processes>> = const { Cell::new(None) };
    }

    /// The processes of this thread from now on; `None`: there is one.
    pub fn simulate(processes: Option<Processes>) {
        PROCESSES.set(processes);
    }

    /// A process.
    #[derive(Clone, Copy, Debug)]
    pub struct Owner(Option<usize>);

    impl Owner {
        /// Whose code runs.
        #[must_use]
        pub fn current() -> Self {
            Self(PROCESSES.get().map(|processes| (processes.current)()))
        }

        /// A future that is run as this process's, and only while that runs.
        pub fn owns<Task: Future>(self, task: Task) -> Owned<Task> {
            Owned { owner: self, task: Box::pin(task) }
        }
    }

    /// A task of a process.
    pub struct Owned<Task> {
        owner: Owner,
        task: Pin<Box<Task>>,
    }

    impl<Task: Future> Future for Owned<Task> {
        type Output = Task::Output;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let runs = match (self.owner.0, PROCESSES.get()) {
                (Some(owner), Some(processes)) => (processes.enter)(owner, context),
                _ => true,
            };
            if runs { self.task.as_mut().poll(context) } else { Poll::Pending }
        }
    }
}
