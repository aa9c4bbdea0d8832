// The public types of redis-reservation, written by hand. `import ReserveResource = require('redis-reservation')`,
// `import ReserveResource from 'redis-reservation'` and `import { ReserveResource } from 'redis-reservation'` are one
// and the same class.
//
// They use only TypeScript's own types, so neither @types/node nor the DOM's are needed.

export = ReserveResource;

/**
 * The reservations of one worker: locks in redis that expire unless they are renewed. A native thread renews them for as
 * long as they are held. One instance may hold several resources.
 *
 * Constructing does no I/O. Fields are read when they are used, so they may be assigned later. A reservation keeps the
 * endpoint, the ttl and the interval that it was acquired with.
 *
 * Every method takes a callback; without one it returns a promise. Nothing is thrown. Every failure is a
 * {@link ReserveResource.ReservationError} with a stable `code`.
 *
 * @example
 * const reservation = new ReserveResource({ by: 'worker-name', host: 'redis.example.com', lock_ttl: 30 });
 * if (await reservation.lock('nightly-report')) {
 *   try {
 *     await make_report();
 *   } finally {
 *     await reservation.release();
 *   }
 * }
 */
declare class ReserveResource {
  /** All arguments and options in one object: {@link ReserveResource.Settings}. */
  constructor(settings: ReserveResource.Settings);
  /**
   * @param by The worker's name. The values of its keys in redis start with it.
   * @param host Where redis is; 127.0.0.1 if falsy. A name; an IPv4 or IPv6 address; the absolute path of a unix socket,
   *   also as `unix:///path`; or a URL, `redis://user:password@host:port/db?option=value`. `rediss://` means TLS;
   *   `valkey://` and `valkeys://` mean the same as `redis://` and `rediss://`. User and password in a URL are
   *   percent-decoded. Its options are `db`, `protocol`, `client_name`, `key_prefix`, `min_replicas`, `connect_timeout`,
   *   `command_timeout`, `max_hold`, `username` and `password`. Arguments and options may add to a URL, but must not
   *   contradict it.
   * @param port Redis port, as a number or a string; 6379 if falsy. A unix socket has none.
   * @param heartbeat_interval Milliseconds between renewals. Undefined, null, 0, negative and NaN mean a third of the
   *   ttl; `Infinity` means never. If the interval is not below the ttl, the reservation ends at its first deadline, and
   *   one warning line says so.
   * @param lock_ttl Seconds that a reservation lives without renewal: a number or a numeric string, above 0, with a
   *   resolution of 1 ms. Otherwise calls that need it fail with `ERR_INVALID_ARG_VALUE`.
   * @param log Where log lines go; `console.log` if absent. See {@link ReserveResource.Log}.
   * @param password The password; none if empty. The user is `options.username`. No log line, error or printed instance
   *   shows it, nor a password in a URL.
   * @param options See {@link ReserveResource.Options}. The first call reports a wrong or unknown one.
   */
  constructor(
    by?: string | number | null,
    host?: string | null,
    port?: number | string | null,
    heartbeat_interval?: number | string | null,
    lock_ttl?: number | string | null,
    log?: ReserveResource.Log | null,
    password?: string | null,
    options?: ReserveResource.Options | null,
  );

  /** The worker's name. */
  by: unknown;
  /** Where redis is, as it was given; 127.0.0.1 if falsy. A printed instance shows a password in a URL as `[hidden]`. */
  host: string | null | undefined;
  /** Redis port; 6379 if falsy. */
  port: number | string | null | undefined;
  /** Milliseconds between renewals; a third of the ttl if not above 0; never if `Infinity`. */
  heartbeat_interval: number | string | null | undefined;
  /** Seconds that a reservation lives without renewal. */
  lock_ttl: number | string | null | undefined;
  /** The `log` argument; `{}` if there was none. */
  metadata: ReserveResource.Log;
  /** The password. A printed instance shows it as `[hidden]`. */
  password: string;
  /** Follows `by` in the values of keys: `process.env.JOB_ID` at construction, else `process.pid`. */
  identifier: string | number;

  /** The logger that writes the lines, made when it is first read. You may assign another. */
  get logger(): ReserveResource.Logger;
  set logger(logger: ReserveResource.LoggerLike);

  /** True while at least one resource is held and every lease is certain at this very instant. Needs no event loop. */
  readonly held: boolean;

  /**
   * Aborts with a {@link ReserveResource.ReservationLostError} when a reservation is lost. A new one is made at the first
   * acquisition, and serves until nothing is held; after a loss, the aborted one stays until the next acquisition.
   * Undefined before the first acquisition, after everything was released, and on runtimes without AbortController.
   */
  readonly signal: ReserveResource.Signal | undefined;

  /** True while this instance holds `resource` and its lease is certain at this very instant. */
  is_held(resource: ReserveResource.Resource): boolean;

  /**
   * Tries once to lock `resource`. The answer is true if it was acquired, and false if anybody holds it, including this
   * instance.
   *
   * Fails with `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_REDIS_CONNECTION`, `ERR_REDIS_AUTH`,
   * `ERR_REDIS_REPLY`, `ERR_REDIS_TIMEOUT`, `ERR_TOO_FEW_REPLICAS`, `ERR_NATIVE_LOAD` or `ERR_RESOURCE_SHORTAGE`. The
   * resource is then not held.
   */
  // promisify() and its like see only the last overload of a method.
  lock(resource: ReserveResource.Resource): Promise<boolean>;
  lock(resource: ReserveResource.Resource, callback: ReserveResource.Callback<boolean>): void;
  lock(
    resource: ReserveResource.Resource,
    callback: ReserveResource.Callback<boolean> | null | undefined,
  ): Promise<boolean> | void;

  /**
   * Waits until `resource` is free and locks it. The answer is the name of its key in redis. If this instance already
   * holds the resource, the answer comes at once, and one release frees it.
   *
   * Waits out an outage if there was a connection before. Fails as {@link lock} does; also with
   * `ERR_RESERVATION_TIMEOUT` after `options.timeout`, and with the signal's reason if `options.signal` is aborted.
   *
   * @example
   * const key = await reservation.wait_until_lock('nightly-report', { timeout: 10000 });
   */
  wait_until_lock(
    resource: ReserveResource.Resource,
    options?: ReserveResource.WaitOptions | null,
  ): Promise<string>;
  wait_until_lock(resource: ReserveResource.Resource, callback: ReserveResource.Callback<string>): void;
  wait_until_lock(
    resource: ReserveResource.Resource,
    options: ReserveResource.WaitOptions | null | undefined,
    callback: ReserveResource.Callback<string, Error>,
  ): void;
  wait_until_lock(
    resource: ReserveResource.Resource,
    options: ReserveResource.WaitOptions | null | undefined,
    callback: ReserveResource.Callback<string, Error> | null | undefined,
  ): Promise<string> | void;
  wait_until_lock(
    resource: ReserveResource.Resource,
    callback: ReserveResource.Callback<string> | null | undefined,
  ): Promise<string> | void;

  /**
   * Frees everything that this instance holds, or `resource` alone. The answer is the number of freed resources, 0 if
   * nothing was held. A key is deleted only if it is still ours.
   *
   * Fails with `ERR_RESERVATION_LOST` if it finds a loss that was not reported before. The rest is freed all the same:
   * `err.released` is their number, `err.lost` has the lost keys. If redis could not be asked, `err.failed` has the keys
   * that may be released again.
   */
  release(): Promise<number>;
  release(resource: ReserveResource.Resource): Promise<number>;
  release(callback: ReserveResource.Callback<number>): void;
  release(resource: ReserveResource.Resource, callback: ReserveResource.Callback<number>): void;
  release(
    resource: ReserveResource.Resource,
    callback: ReserveResource.Callback<number> | null | undefined,
  ): Promise<number> | void;
  release(callback: ReserveResource.Callback<number> | null | undefined): Promise<number> | void;

  /**
   * Renews everything that is held, now, for `lock_ttl`. There is no need to call it: a native thread renews every
   * `heartbeat_interval`. If a subclass overrides it, it is also called at each interval, and a loss is not thrown.
   *
   * Fails with `ERR_RESERVATION_LOST` (`err.lost` has all lost keys), with `ERR_RESERVATION_NOT_HELD` if nothing is held,
   * and as {@link lock} does if redis cannot be asked.
   */
  ensure_reservation(): Promise<void>;
  ensure_reservation(callback: (err: ReserveResource.ReservationError | null) => void): void;
  ensure_reservation(
    callback: ((err: ReserveResource.ReservationError | null) => void) | null | undefined,
  ): Promise<void> | void;

  /**
   * A reservation was lost: another holds its key, or its lease ran out. A foreign change of the key is told within
   * milliseconds once the reservation is a second old (docs/guarantees.md, "Watched keys"). Without a listener, the loss is
   * thrown as an uncaught exception. Either happens in the async context of the call that acquired the lock.
   *
   * @example
   * reservation.on('lost', (err) => stop_work_on(err.key));
   */
  on(event: 'lost', listener: ReserveResource.LostListener): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
  once(event: 'lost', listener: ReserveResource.LostListener): this;
  once(event: string | symbol, listener: (...args: any[]) => void): this;
  addListener(event: 'lost', listener: ReserveResource.LostListener): this;
  addListener(event: string | symbol, listener: (...args: any[]) => void): this;
  prependListener(event: 'lost', listener: ReserveResource.LostListener): this;
  prependListener(event: string | symbol, listener: (...args: any[]) => void): this;
  prependOnceListener(event: 'lost', listener: ReserveResource.LostListener): this;
  prependOnceListener(event: string | symbol, listener: (...args: any[]) => void): this;
  // The rest of an EventEmitter, as Node has it.
  off(event: string | symbol, listener: (...args: any[]) => void): this;
  removeListener(event: string | symbol, listener: (...args: any[]) => void): this;
  removeAllListeners(event?: string | symbol): this;
  setMaxListeners(count: number): this;
  getMaxListeners(): number;
  listeners(event: string | symbol): Function[];
  rawListeners(event: string | symbol): Function[];
  listenerCount(event: string | symbol, listener?: Function): number;
  emit(event: string | symbol, ...args: any[]): boolean;
  eventNames(): Array<string | symbol>;

  /** The key that was acquired last, of those still held. */
  _reserve_key?: string;
  /** The value of that key: `<by>-<identifier>-<token>`, with a new token for each acquisition. */
  _reserve_val?: string;
  /** True from a loss until the next acquisition. */
  _lost_reservation: boolean;
  /** The handle of the process's shared connection. Set by the first call, or by {@link _init_redis}. */
  _redis?: ReserveResource.RedisHandle;
  /** Sets {@link _redis}; opens nothing. */
  _init_redis(): ReserveResource.RedisHandle;
  /** Calls {@link ensure_reservation}. If a subclass overrides either, a timer calls this at each interval. */
  _ensure_reservation(): Promise<void>;
  _ensure_reservation(callback: (err: ReserveResource.ReservationError | null) => void): void;
  /**
   * Renews as {@link ensure_reservation} does. The answer is true, or false if nothing is held. If a subclass overrides
   * it, a JavaScript timer calls it at each interval, and nothing else renews what is acquired from then on.
   */
  _set_expiration(): Promise<boolean>;
  _set_expiration(callback: ReserveResource.Callback<boolean>): void;
  /** There is no such timer, which 0.4.0 had. Reading it while something is held logs a warning, once an instance. */
  readonly _heartbeat: undefined;
}

declare namespace ReserveResource {
  export { ReserveResource, ReserveResource as default };

  /** Called once, always asynchronously: `(err)`, or `(null, value)`. */
  export type Callback<Value, Failure = ReservationError> = (err: Failure | null, value: Value) => void;

  /**
   * What can be locked: anything whose `String(resource)` is a name. Undefined, null, functions, symbols and plain objects
   * fail with `ERR_INVALID_ARG_TYPE`, NaN and the empty string with `ERR_INVALID_ARG_VALUE`.
   */
  export type Resource = string | number | bigint | boolean | Uint8Array | readonly unknown[] | Named;

  /** An object that is a string in JSON, such as an id, a date or a URL. For any other, pass `String(object)`. */
  export interface Named {
    toJSON(): string;
  }

  export type LostListener = (err: ReservationLostError) => void;

  /** The AbortSignal of the runtime's types; where they have none, {@link AbortSignalLike}. */
  export type Signal = typeof globalThis extends { AbortSignal: { prototype: infer Known } }
    ? Known
    : AbortSignalLike;

  /** The constructor's arguments and options as one object. Each property is as the argument or option of its name. */
  export interface Settings extends Options {
    /** The worker's name. The values of its keys in redis start with it. */
    by?: string | number | null | undefined;
    /** Where redis is, in any form that the constructor's second argument takes; 127.0.0.1 if falsy. */
    host?: string | null | undefined;
    /** Redis port; 6379 if falsy. */
    port?: number | string | null | undefined;
    /** Milliseconds between renewals; a third of the ttl if not above 0; never if `Infinity`. */
    heartbeat_interval?: number | string | null | undefined;
    /** Seconds that a reservation lives without renewal. */
    lock_ttl?: number | string | null | undefined;
    /** Where log lines go; `console.log` if absent. */
    log?: Log | null | undefined;
    /** The password; none if empty. */
    password?: string | null | undefined;
  }

  /**
   * Times are in milliseconds, above 0. The first call reports what is wrong, unknown or contradictory, as
   * `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`. Options are read when they are used. To change `tls`, `sentinels` or
   * `cluster`, assign a new object or array: a change inside of the old one is not noticed.
   */
  export interface Options {
    /** How long a connect or a handshake may take; default 5,000. A refused connection is always retried for 500 ms. */
    connect_timeout?: number | string | null | undefined;
    /** How long redis may take to answer; default a third of the ttl, within 50 to 5,000. Never more than the ttl. */
    command_timeout?: number | string | null | undefined;
    /**
     * How long a reservation may be held; default no limit. Then it is no longer renewed, and is reported lost, so that a hung
     * job cannot hold it for ever.
     */
    max_hold?: number | string | null | undefined;
    /** The ACL user that `password` belongs to; redis's `default` user if absent or empty. */
    username?: string | null | undefined;
    /** The number of the database, 0 or more; default 0. */
    db?: number | string | null | undefined;
    /** Whether to use TLS; default false, or true with a `rediss://` URL. An object means true. Not for unix sockets. */
    tls?: boolean | TlsOptions | null | undefined;
    /**
     * The sentinels that watch the master called `name`. One that answers is enough. Default port 26379. Not together with
     * `host`, `port` or `cluster`.
     */
    sentinels?: readonly Member[] | null | undefined;
    /** The name under which the sentinels watch the master. Required with `sentinels`, an error without. */
    name?: string | null | undefined;
    /**
     * The sentinels' ACL user that `sentinelPassword` belongs to; their `default` user if absent or empty. An error
     * without `sentinels`.
     */
    sentinelUsername?: string | null | undefined;
    /** The sentinels' password; default none. An error without `sentinels`. No log line or error shows it. */
    sentinelPassword?: string | null | undefined;
    /**
     * Some nodes of a cluster. One that answers is enough: it names the others. Default port 6379. Not together with
     * `host`, `port` or `sentinels`.
     */
    cluster?: readonly Member[] | null | undefined;
    /** The connection's name in `CLIENT LIST`: visible ASCII characters, no spaces; default `redis-reservation`. */
    client_name?: string | null | undefined;
    /** The RESP version, 2 or 3; default 3, or 2 if the server has no other. With 2, waiters poll once a second. */
    protocol?: 2 | 3 | '2' | '3' | null | undefined;
    /** The prefix of keys in redis; default `reservation-`, may be empty. Processes exclude each other only if it is the same. */
    key_prefix?: string | null | undefined;
    /** How many replicas must confirm a lock, 0 or more; default 0. With fewer, it fails with `ERR_TOO_FEW_REPLICAS`. */
    min_replicas?: number | string | null | undefined;
  }

  /** One sentinel, or one node of a cluster. */
  export interface Member {
    /** A host name or an address. */
    host: string;
    /** Default 26379 for a sentinel, 6379 for a node of a cluster. */
    port?: number | string | null | undefined;
  }

  /** PEM: a string, its bytes, or an array of these. */
  export type Pem = string | Uint8Array | readonly (string | Uint8Array)[];

  /** The TLS options, under Node's names. */
  export interface TlsOptions {
    /** The certificates to trust; default those that Node trusts, including `NODE_EXTRA_CA_CERTS`. */
    ca?: Pem | null | undefined;
    /** The client certificate; default none. Only together with `key`. */
    cert?: Pem | null | undefined;
    /** The private key of `cert`, not encrypted. No log line or error shows it. */
    key?: Pem | null | undefined;
    /** The name that every server's certificate must be for; default the server's host. */
    servername?: string | null | undefined;
    /**
     * Whether the server's certificate is verified; default true. With false, anybody on the way can read and change
     * everything: one log line, `tls-unverified`, warns of it.
     */
    rejectUnauthorized?: boolean | null | undefined;
  }

  export interface WaitOptions {
    /** The longest wait in milliseconds; default no limit. 0 tries once. */
    timeout?: number | string | null | undefined;
    /** Ends the wait when it is aborted. The call then fails with the signal's reason. */
    signal?: AbortSignalLike | null | undefined;
  }

  /** The part of an AbortSignal that is used. */
  export interface AbortSignalLike {
    readonly aborted: boolean;
    readonly reason?: any;
    addEventListener(type: 'abort', listener: () => void): void;
    removeEventListener?(type: 'abort', listener: () => void): void;
  }

  /** The fields of one log line. */
  export interface LogEvent {
    level: 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical';
    source: unknown;
    via: string;
    title: string;
    [field: string]: unknown;
  }

  /** A kayvee logger. */
  export interface KayveeLike {
    infoD(title: string, event: any): void;
    errorD(title: string, event: any): void;
    warnD?(title: string, event: any): void;
  }

  /** Any other logger. Each call gets the title and the fields of the line. */
  export interface InfoErrorLogger {
    info(title: string, event: any): void;
    error(title: string, event: any): void;
    warn?(title: string, event: any): void;
  }

  /**
   * Where log lines go. A function gets each line as one JSON string. A logger gets `(title, event)`. Any other object is
   * metadata: it is merged into every line, and lines go to `console.log`. `false` writes none. `KAYVEE_LOG_LEVEL` sets the
   * threshold.
   */
  export type Log = ((line: string) => void) | KayveeLike | InfoErrorLogger | Metadata | false;

  /** Fields for every line. Names of options are refused: they were meant as options. */
  export type Metadata = ({ [field: string]: unknown } | object) & {
    [Option in Exclude<keyof Options, 'name'> | 'password']?: never;
  };

  /** What may be assigned to `logger`. */
  export type LoggerLike = Logger | KayveeLike | InfoErrorLogger;

  /** The logger of an instance, with kayvee's methods. */
  export interface Logger {
    /** The fields of every line: `source`, `via`, and the metadata. */
    globals: { [field: string]: unknown };
    /** Sets the threshold: `trace`, `debug`, `info`, `warning`, `error` or `critical`; anything else means `debug`. */
    setLogLevel(level: string): string;
    /** Sends every line to `output`, as one string. */
    setOutput(output: (line: string) => void): (line: string) => void;
    /** Sets the function that makes a line of its fields. */
    setFormatter(formatter: (event: LogEvent) => string): (event: LogEvent) => string;
    /** The result of `router.route` is added to every line, as `_kvmeta`. */
    setRouter(router: { route(event: LogEvent): unknown } | null): void;
    /** The store is a Map. Its `context` is merged into every line. */
    setAsyncLocalStorage(storage: { getStore(): unknown } | null): void;
    setConfig(
      source: string,
      level: string,
      formatter: (event: LogEvent) => string,
      output: (line: string) => void,
    ): (line: string) => void;
    trace(title: string): void;
    debug(title: string): void;
    info(title: string): void;
    warn(title: string): void;
    error(title: string): void;
    critical(title: string): void;
    traceD(title: string, data: object): void;
    debugD(title: string, data: object): void;
    infoD(title: string, data: object): void;
    warnD(title: string, data: object): void;
    errorD(title: string, data: object): void;
    criticalD(title: string, data: object): void;
    counter(title: string): void;
    counterD(title: string, value: number, data: object): void;
    gauge(title: string, value: number): void;
    gaugeD(title: string, value: number, data: object): void;
  }

  /** A handle of the process's shared connection to one endpoint. It has no commands. */
  export interface RedisHandle {
    /** Closes the connection if nothing needs it; the next call opens it again. The answer is `OK`. */
    quit(): Promise<'OK'>;
    quit(callback: Callback<'OK'>): void;
    /** As {@link quit}, without an answer. */
    end(): void;
    /** Keeps the process alive until {@link unref}, {@link quit} or {@link end}. A held reservation alone does not. */
    ref(): this;
    /** Undoes {@link ref}. */
    unref(): this;
    /** Accepted for callers of 0.4.0, as the other event methods. Listeners are never called. */
    on(event: string, listener: (...args: any[]) => void): this;
    once(event: string, listener: (...args: any[]) => void): this;
    addListener(event: string, listener: (...args: any[]) => void): this;
    off(event: string, listener: (...args: any[]) => void): this;
    removeListener(event: string, listener: (...args: any[]) => void): this;
    removeAllListeners(event?: string): this;
    setMaxListeners(count: number): this;
    /** Throws: set `options.db` instead. */
    select(...args: unknown[]): never;
    /** Throws: set `password` and `options.username` instead. */
    auth(...args: unknown[]): never;
  }

  /** Every failure of this package. `String(err)` is `Error: <message>`. */
  export class ReservationError extends Error {
    constructor(message?: string, code?: string, details?: object);
    readonly code: string;
    /** The underlying error, if there is one. */
    readonly cause?: unknown;
    /** The key in redis that the error is about. */
    readonly key?: string;
    /** The endpoint that the error is about. */
    readonly host?: string;
    readonly port?: number;
    /** Of a release: how many resources were freed all the same. */
    readonly released?: number;
    /** Of a release or a renewal: the keys that were found lost. */
    readonly lost?: string[];
    /** Of a release: the keys that may be released again. */
    readonly failed?: string[];
    /** For JSON and postMessage: `name`, `code`, `message`, the fields above, and the causes likewise. */
    toJSON(): { name: string; code: string; message: string; [field: string]: unknown };
  }

  /** A wrong argument, field or option. Nothing was sent to redis. */
  export class InvalidArgumentError extends ReservationError {
    readonly code: 'ERR_INVALID_ARG_TYPE' | 'ERR_INVALID_ARG_VALUE';
  }

  /** No connection could be made, or it broke and the call's time ran out. */
  export class RedisConnectionError extends ReservationError {
    readonly code: 'ERR_REDIS_CONNECTION';
  }

  /** Redis refused the credentials, or denied the user a command. */
  export class RedisAuthError extends ReservationError {
    readonly code: 'ERR_REDIS_AUTH';
  }

  /** Redis answered with an error. The message quotes it. */
  export class RedisReplyError extends ReservationError {
    readonly code: 'ERR_REDIS_REPLY';
  }

  /** Redis did not answer within `command_timeout`. */
  export class RedisTimeoutError extends ReservationError {
    readonly code: 'ERR_REDIS_TIMEOUT';
  }

  /** A reservation was lost: another holds its key, or its lease ran out. */
  export class ReservationLostError extends ReservationError {
    readonly code: 'ERR_RESERVATION_LOST';
    readonly key: string;
    /** The value that the key had while it was ours. */
    readonly val: string;
    /** The value that it has now, if somebody else is known to hold it. */
    readonly holder?: string;
  }

  /** A renewal was called while nothing is held. */
  export class ReservationNotHeldError extends ReservationError {
    readonly code: 'ERR_RESERVATION_NOT_HELD';
  }

  /** Fewer than `min_replicas` replicas confirmed the lock in time. It was released. */
  export class TooFewReplicasError extends ReservationError {
    readonly code: 'ERR_TOO_FEW_REPLICAS';
  }

  /** The `timeout` of a wait passed before the resource was free. */
  export class ReservationTimeoutError extends ReservationError {
    readonly code: 'ERR_RESERVATION_TIMEOUT';
  }

  /** The native part of the package could not be loaded. The message lists what was tried. */
  export class NativeLoadError extends ReservationError {
    readonly code: 'ERR_NATIVE_LOAD';
  }
}
