// The same class with types: errors have different classes and codes.
import ReserveResource, { ReservationError, ReservationLostError } from 'redis-reservation';

const options: ReserveResource.Options = { command_timeout: 500, max_hold: 60_000 };
const { REDIS_HOST, REDIS_PORT } = process.env;

// Each instance is one worker. `log: false` is silent.
class Reporter extends ReserveResource {
  constructor(readonly job: string) {
    super('reporter', REDIS_HOST, REDIS_PORT, undefined, 2, false, '', options);
  }

  async run(work: (signal?: AbortSignal) => Promise<void>): Promise<number> {
    const key: string = await this.wait_until_lock(this.job, { timeout: 5000 });
    console.log(`got ${key}`);
    try {
      await work(this.signal);
    } finally {
      console.log(`freed ${await this.release()}`);
    }
    return 0;
  }
}

const reporter = new Reporter('nightly-report');
reporter.on('lost', (err: ReservationLostError) =>
  console.error(`lost ${err.key} to ${err.holder ?? 'nobody'}`),
);

reporter
  .run(async (signal) => console.log(`the job runs, aborted: ${signal?.aborted}`))
  .catch((err: unknown) => {
    if (!(err instanceof ReservationError)) throw err;
    console.error(`${err.code}: ${err.message}`);
    return 1;
  })
  .then((code) => {
    process.exitCode = code;
  });
