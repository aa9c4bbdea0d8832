// Checks index.d.ts as its users use it: `npm run types` compiles this and runs nothing. A line after @ts-expect-error must not
// compile.
import byDefault from 'redis-reservation';
import { ReserveResource, ReservationError, ReservationLostError } from 'redis-reservation';
import required = require('redis-reservation');
import { AsyncLocalStorage } from 'async_hooks';
import { EventEmitter, once } from 'events';
import { promisify } from 'util';

// The three imports are one class.
const same: typeof ReserveResource = byDefault;
const again: typeof byDefault = required;
const own: typeof required = required.ReserveResource;
const asDefault: typeof required = required.default;
void [same, again, own, asDefault];

// As in the README of 0.4.0.
const reservation = new ReserveResource(
  'worker-name',
  process.env.REDIS_HOST,
  process.env.REDIS_PORT,
  10 * 60 * 1000,
  30 * 60,
);
const emitter: EventEmitter = reservation;
void [emitter, once(reservation, 'lost')];
new ReserveResource();
new ReserveResource('w', null, null, null, '30', null, null, null);
new ReserveResource('w', 'redis', 6379, Infinity, 0.5, console.error, 'secret', {
  connect_timeout: 1000,
  command_timeout: 100,
  max_hold: 60_000,
});
// Where redis is.
new ReserveResource('w', 'rediss://user:secret@redis:6380/2?protocol=3', null, 0, 30);
new ReserveResource('w', '/run/redis.sock', null, 0, 30, false, null, { username: 'me', db: 2 });
const certificates = [Buffer.from('PEM'), 'PEM'] as const;
new ReserveResource('w', 'redis', 6379, 0, 30, false, '', {
  tls: { ca: certificates, cert: 'PEM', key: Buffer.from('PEM'), servername: 'x', rejectUnauthorized: false },
  client_name: 'jobs',
  protocol: 2,
  key_prefix: 'jobs:',
  min_replicas: 1,
});
const member: ReserveResource.Member = { host: 'redis-1' };
new ReserveResource('w', null, null, 0, 30, false, '', {
  sentinels: [member, { host: 'redis-2', port: 26380 }],
  name: 'mymaster',
  sentinelUsername: 'scout',
  sentinelPassword: 'secret',
  tls: true,
});
new ReserveResource('w', null, null, 0, 30, false, '', { cluster: [member], tls: { ca: 'PEM' } });
// @ts-expect-error there is no such protocol
new ReserveResource('w', 'redis', 6379, 0, 30, false, '', { protocol: 4 });
// @ts-expect-error a server has a host
new ReserveResource('w', null, null, 0, 30, false, '', { cluster: [{ port: 6379 }] });
// @ts-expect-error there is no such option of tls
new ReserveResource('w', 'redis', 6379, 0, 30, false, '', { tls: { cafile: 'x' } });
// @ts-expect-error the port is a number or its text
new ReserveResource('w', 'redis', {});
// @ts-expect-error there is no such option
new ReserveResource('w', 'redis', 6379, 0, 30, false, '', { max_hodl: 1 });

// Every form of log.
new ReserveResource('w', '', 0, 0, 1, false);
new ReserveResource('w', '', 0, 0, 1, (line: string) => void line);
new ReserveResource('w', '', 0, 0, 1, console);
new ReserveResource('w', '', 0, 0, 1, { job: 'nightly', run: 7 });
interface Metadata {
  job: string;
}
const metadata: Metadata = { job: 'nightly' };
new ReserveResource('w', '', 0, 0, 1, metadata);
new ReserveResource('w', '', 0, 0, 1, (line) => line.length);
new ReserveResource('w', '', 0, 0, 1, {
  infoD: (title: string, event: ReserveResource.LogEvent) => void [title, event.source],
  errorD: (title: string) => void title,
});
// @ts-expect-error true is no form of log
new ReserveResource('w', '', 0, 0, 1, true);
// @ts-expect-error a number is no form of log
new ReserveResource('w', '', 0, 0, 1, 5);
// @ts-expect-error options are no form of log
new ReserveResource('w', '', 0, 0, 1, { tls: true });
// @ts-expect-error nor is a password
new ReserveResource('w', '', 0, 0, 1, { password: 'x' });
new ReserveResource('w', '', 0, 0, 1, { name: 'nightly', team: 'x' });

// All arguments in one object.
new ReserveResource({
  by: 'w',
  host: 'redis',
  port: '6379',
  heartbeat_interval: 1000,
  lock_ttl: 30,
  log: console,
  password: 'secret',
  db: 2,
  tls: { ca: 'PEM' },
});
const settings: ReserveResource.Settings = { by: 'w', host: process.env.REDIS_HOST, log: false };
new ReserveResource(settings);
// @ts-expect-error there is no such argument
new ReserveResource({ by: 'w', hsot: 'x' });
// @ts-expect-error one object excludes other arguments
new ReserveResource({ by: 'w' }, 'redis');

// Optional arguments may be undefined.
const absent = undefined;
new ReserveResource({
  by: absent,
  host: absent,
  port: absent,
  heartbeat_interval: absent,
  lock_ttl: absent,
  log: absent,
  password: absent,
});
new ReserveResource('w', absent, absent, absent, absent, absent, absent, {
  connect_timeout: absent,
  command_timeout: absent,
  max_hold: absent,
  username: absent,
  db: absent,
  tls: { ca: absent, cert: absent, key: absent, servername: absent, rejectUnauthorized: absent },
  sentinels: [{ host: 'x', port: absent }],
  name: absent,
  sentinelUsername: absent,
  sentinelPassword: absent,
  cluster: absent,
  client_name: absent,
  protocol: absent,
  key_prefix: absent,
  min_replicas: absent,
});
void reservation.wait_until_lock('job', { timeout: absent, signal: absent });

// Callbacks.
reservation.lock('job', (err, status) => {
  const failure: ReservationError | null = err;
  const locked: boolean = status;
  return [failure?.code, locked];
});
reservation.lock('job', (err: Error | null, status: boolean) => void [err, status]);
reservation.wait_until_lock('job', (_err, key) => key.toUpperCase());
reservation.wait_until_lock('job', { timeout: 1000 }, (_err, key) => key.toUpperCase());
reservation.wait_until_lock('job', null, (_err, key) => key.toUpperCase());
reservation.release((_err, released) => released.toFixed());
reservation.release('job', (_err, released) => released.toFixed());
reservation.release((err) => void err);
reservation.ensure_reservation((err) => err?.lost?.length);
// @ts-expect-error the answer is a boolean
reservation.lock('job', (_err, status) => status.length);

// Resources.
for (const resource of ['text', 5, 5n, Buffer.from('x'), ['a', 'b']]) void reservation.lock(resource);
// @ts-expect-error a resource has a name
void reservation.lock(undefined);
// @ts-expect-error a resource has a name
void reservation.lock(Symbol('x'));
// @ts-expect-error nor has a literal one
void reservation.lock({});
// @ts-expect-error nor this
void reservation.lock({ name: 'job' });
// @ts-expect-error the resource comes first
void reservation.lock(() => {});
// @ts-expect-error the resource comes first
void reservation.wait_until_lock((err: Error | null) => void err);
// @ts-expect-error lock has no options
void reservation.lock('job', { timeout: 5 });
// @ts-expect-error nor does wait_until_lock take a number for them
void reservation.wait_until_lock('job', 5000, () => {});
void reservation.lock(new Date(0));
void reservation.lock(new URL('redis://x'));
void reservation.is_held(Buffer.from('x'));

// An optional callback can be passed on.
function pass(
  callback?: ReserveResource.Callback<boolean>,
  waited?: ReserveResource.Callback<string, Error> | null,
  released?: ReserveResource.Callback<number>,
): void {
  reservation.lock('job', callback);
  reservation.wait_until_lock('job', { timeout: 5 }, waited);
  reservation.release(released);
  reservation.release('job', released);
}
void pass;

// Promises.
async function promises(): Promise<void> {
  const locked: boolean = await reservation.lock('job');
  const key: string = await reservation.wait_until_lock('job');
  await reservation.wait_until_lock('job', { timeout: 5, signal: new AbortController().signal });
  const released: number = await reservation.release();
  const one: number = await reservation.release('job');
  const nothing: void = await reservation.ensure_reservation();
  const extended: boolean = await reservation._set_expiration();
  void [locked, key, released, one, nothing, extended];
  // @ts-expect-error there is no such option
  await reservation.wait_until_lock('job', { timout: 5 });
  // @ts-expect-error with a callback there is no promise
  await reservation.lock('job', () => {}).then();
}

// promisify takes these methods.
async function promisified(): Promise<void> {
  const lock: (resource: string) => Promise<boolean> = promisify(reservation.lock.bind(reservation));
  const locked: boolean = await promisify(reservation.lock).call(reservation, 'job');
  const key: string = await promisify(reservation.wait_until_lock).call(reservation, 'job');
  const released: number = await promisify(reservation.release).call(reservation);
  await promisify(reservation.ensure_reservation).call(reservation);
  void [await lock('job'), locked, key, released];
}
void promisified;

// State.
const held: boolean = reservation.held;
const isHeld: boolean = reservation.is_held('job');
const signal: AbortSignal | undefined = reservation.signal;
void [held, isHeld, signal, promises];
signal?.addEventListener('abort', () => signal.reason);
// @ts-expect-error held is read, not set
reservation.held = true;
reservation.password = 'new';
reservation.host = undefined;
reservation.identifier = 'job-7';

// Loss.
reservation.on('lost', (err) => {
  const lost: ReservationLostError = err;
  const parts: [string, string, string | undefined] = [lost.key, lost.val, lost.holder];
  return parts;
});
reservation.once('lost', (err) => err.code === 'ERR_RESERVATION_LOST').on('other', (anything) => anything);

// Errors.
function explain(err: unknown): string {
  if (err instanceof ReservationLostError) return err.val;
  if (err instanceof ReserveResource.RedisAuthError) return err.code;
  if (err instanceof ReserveResource.TooFewReplicasError) return err.code;
  if (err instanceof ReserveResource.InvalidArgumentError) return err.toJSON().message;
  if (err instanceof ReservationError) return `${err.code} ${err.host ?? ''} ${err.released ?? 0}`;
  return '';
}
void explain;
// A check for a class takes its constructor.
const constructors: (new (...args: never[]) => Error)[] = [ReservationError, ReservationLostError];
void constructors;

// Loggers.
reservation.logger = { infoD: () => {}, errorD: () => {} };
reservation.logger = console;
reservation.logger.setLogLevel('error');
reservation.logger.setOutput(console.error);
reservation.logger.globals.team = 'x';
reservation.logger.traceD('title', { field: 1 });
reservation.logger.setAsyncLocalStorage(new AsyncLocalStorage<Map<string, unknown>>());

// The connection's handle.
reservation._init_redis().ref().unref().end();
void reservation._redis?.quit().then((answer: 'OK') => answer);
reservation._redis?.quit((_err, answer) => answer);

// Subclasses, also with their own renewal.
class Worker extends ReserveResource {
  beats = 0;
  constructor(readonly job: string) {
    super('worker', undefined, undefined, 1000, 10);
  }
  override ensure_reservation(): Promise<void>;
  override ensure_reservation(callback: (err: ReservationError | null) => void): void;
  override ensure_reservation(
    callback?: ((err: ReservationError | null) => void) | null,
  ): Promise<void> | void;
  override ensure_reservation(
    callback?: ((err: ReservationError | null) => void) | null,
  ): Promise<void> | void {
    this.beats += 1;
    return callback ? super.ensure_reservation(callback) : super.ensure_reservation();
  }
}
const worker: ReserveResource = new Worker('nightly');
void worker;
