// The public types of redis-reservation, written by hand. `import ReserveResource = require('redis-reservation')`,
// `import ReserveResource from 'redis-reservation'` and `import { ReserveResource } from 'redis-reservation'` are one
// and the same class.
//
// They name no types but TypeScript's own: neither @types/node nor the DOM's need be there.

export = ReserveResource;

/**
 * Reservations of one worker: locks in redis that expire unless they are renewed, which a native thread does for as
 * long as they are held. One instance may hold several resources.
 *
 * Constructing does no I/O. Each field is read when it is used, so it may be assigned later; what is held keeps the
 * endpoint, the ttl and the interval that it was acquired with.
 *
 * Every method takes a callback or, without one, gives a promise; nothing is thrown. Whatever fails is a
 * {@link ReserveResource.ReservationError} with a stable `code`.
 */
declare class ReserveResource {
  /** Everything in one object, in any order: {@link ReserveResource.Settings}. */
  constructor(settings: ReserveResource.Settings);
  /**
   * @param by The worker's name: the value of a key in redis starts with it.
   * @param host Where redis is; 127.0.0.1 if falsy. A name; an IPv4 or IPv6 address; the absolute path of a unix socket,
   *   also as `unix:///path`; or a URL, `redis://user:password@host:port/db?option=value`, with TLS as `rediss://`,
   *   `valkey://` and `valkeys://` likewise. User and password in it are percent-decoded; the options are `db`, `protocol`,
   *   `client_name`, `key_prefix`, `min_replicas`, `connect_timeout`, `command_timeout`, `max_hold`, `username` and
   *   `password`. The other arguments and options fill in what a URL leaves open, and must not contradict it.
   * @param port Redis port; 6379 if falsy. A string will do, as `process.env.REDIS_PORT` is one. A unix socket has none.
   * @param heartbeat_interval Milliseconds between renewals. Undefined, null, 0, negative and NaN mean a third of the
   *   ttl; `Infinity` means never. With an interval that is not below the ttl the reservation ends at its first deadline:
   *   one warning line says so.
   * @param lock_ttl Seconds that a reservation lives without renewal: a number or its text, above 0; fractions count in
   *   milliseconds. Calls that need it fail with `ERR_INVALID_ARG_VALUE` if it is anything else.
   * @param log Where lines go; `console.log` if absent. See {@link ReserveResource.Log}.
   * @param password What to authenticate with; none if empty. The user is `options.username`. No line, error or printed
   *   instance shows it, nor the one in a URL.
   * @param options See {@link ReserveResource.Options}; a wrong or unknown one is reported by the first call.
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
  /** Where redis is, as it was given; 127.0.0.1 if falsy. A password in a URL is printed as `[hidden]`. */
  host: string | null | undefined;
  /** Redis port; 6379 if falsy. */
  port: number | string | null | undefined;
  /** Milliseconds between renewals; a third of the ttl if not above 0, never if `Infinity`. */
  heartbeat_interval: number | string | null | undefined;
  /** Seconds that a reservation lives without renewal. */
  lock_ttl: number | string | null | undefined;
  /** The `log` argument; `{}` if there was none. */
  metadata: ReserveResource.Log;
  /** What to authenticate with. Printed as `[hidden]`. */
  password: string;
  /** What follows `by` in a key's value: `process.env.JOB_ID`, else `process.pid`, as they were at construction. */
  identifier: string | number;

  /** The logger that lines go through, made at its first read; another may be put in its place. */
  get logger(): ReserveResource.Logger;
  set logger(logger: ReserveResource.LoggerLike);

  /** True while at least one resource is held and the lease of each is certain at this very instant. */
  readonly held: boolean;

  /**
   * Aborted with a {@link ReserveResource.ReservationLostError} when a reservation is lost. One for each period from the
   * first acquisition until nothing is held; after a loss it stays, aborted, until the next acquisition. Undefined before
   * the first one, after a release, and on runtimes without AbortController.
   */
  readonly signal: ReserveResource.Signal | undefined;

  /** True while this instance holds `resource` and its lease is certain at this very instant. */
  is_held(resource: ReserveResource.Resource): boolean;

  /**
   * Tries once to lock `resource`. The answer is true if it was acquired, false if anybody holds it, this instance
   * included.
   *
   * Fails with `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE`, `ERR_REDIS_CONNECTION`, `ERR_REDIS_AUTH`,
   * `ERR_REDIS_REPLY`, `ERR_REDIS_TIMEOUT`, `ERR_TOO_FEW_REPLICAS`, `ERR_NATIVE_LOAD` or `ERR_RESOURCE_SHORTAGE`; then
   * it is not held.
   */
  // The last of each method's forms is what promisify() and the like take it for.
  lock(resource: ReserveResource.Resource): Promise<boolean>;
  lock(resource: ReserveResource.Resource, callback: ReserveResource.Callback<boolean>): void;
  lock(
    resource: ReserveResource.Resource,
    callback: ReserveResource.Callback<boolean> | null | undefined,
  ): Promise<boolean> | void;

  /**
   * Waits until `resource` is free and locks it. The answer is the name of its key in redis. A resource that this
   * instance holds already is answered at once, and one release frees it.
   *
   * An outage is waited out if the connection had stood before. Fails as {@link lock} does, with
   * `ERR_RESERVATION_TIMEOUT` after `options.timeout`, and with the signal's reason if `options.signal` is aborted.
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
   * Frees everything that is held, or `resource` alone. The answer is how many were freed, 0 if nothing was held. Only
   * what is still ours is deleted.
   *
   * Fails with `ERR_RESERVATION_LOST` if it finds a loss that was not told before: the rest is freed, `err.released`
   * says how many, `err.lost` has the lost keys. If redis could not be asked, `err.failed` has the keys that may be
   * released again.
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
   * Renews everything that is held, now, for `lock_ttl`. Not needed: a native thread does it at each
   * `heartbeat_interval`. A subclass may override it; then it is also called at each interval, and a loss is not thrown.
   *
   * Fails with `ERR_RESERVATION_LOST` (all keys in `err.lost`), with `ERR_RESERVATION_NOT_HELD` if nothing is held, and
   * as {@link lock} does if redis cannot be asked.
   */
  ensure_reservation(): Promise<void>;
  ensure_reservation(callback: (err: ReserveResource.ReservationError | null) => void): void;
  ensure_reservation(
    callback: ((err: ReserveResource.ReservationError | null) => void) | null | undefined,
  ): Promise<void> | void;

  /**
   * A reservation was lost: another holds its key, or its lease ran out. Heard here, or else thrown as an uncaught
   * exception in the async context of the call that took the lock. The listener runs in that context too.
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

  /** The key that was acquired last and is still held. */
  _reserve_key?: string;
  /** The value of that key: `by`, `identifier` and a token of its own. */
  _reserve_val?: string;
  /** True from a loss until the next acquisition. */
  _lost_reservation: boolean;
  /** The handle of the process's shared connection, once there was a call or {@link _init_redis}. */
  _redis?: ReserveResource.RedisHandle;
  /** Sets {@link _redis}; opens nothing. */
  _init_redis(): ReserveResource.RedisHandle;
  /** What the timer calls for a subclass that overrides it or {@link ensure_reservation}. */
  _ensure_reservation(): Promise<void>;
  _ensure_reservation(callback: (err: ReserveResource.ReservationError | null) => void): void;
  /**
   * Renews as {@link ensure_reservation} does; the answer is true if it did, false if nothing is held. A subclass may
   * override it: then nothing else renews what is acquired from then on, and a JavaScript timer calls it at each interval.
   */
  _set_expiration(): Promise<boolean>;
  _set_expiration(callback: ReserveResource.Callback<boolean>): void;
  /** 0.4.0's timer: there is none. Reading it while something is held leaves a warning, once an instance. */
  readonly _heartbeat: undefined;
}

declare namespace ReserveResource {
  export { ReserveResource, ReserveResource as default };

  /** Called once, always asynchronously: `(err)`, or `(null, value)`. */
  export type Callback<Value, Failure = ReservationError> = (err: Failure | null, value: Value) => void;

  /**
   * What can be locked: anything whose `String(resource)` is a name. Refused are undefined, null, functions, symbols and
   * plain objects (`ERR_INVALID_ARG_TYPE`), NaN and the empty text (`ERR_INVALID_ARG_VALUE`).
   */
  export type Resource = string | number | bigint | boolean | Uint8Array | readonly unknown[] | Named;

  /** An object that is one text in JSON, as ids, dates and URLs are. Of any other, pass its `String(object)`. */
  export interface Named {
    toJSON(): string;
  }

  export type LostListener = (err: ReservationLostError) => void;

  /** The AbortSignal of the runtime's own types; where they have none, as much of one as is needed. */
  export type Signal = typeof globalThis extends { AbortSignal: { prototype: infer Known } }
    ? Known
    : AbortSignalLike;

  /** The constructor's arguments and options as one object. */
  export interface Settings extends Options {
    /** The worker's name: the value of a key in redis starts with it. */
    by?: string | number | null | undefined;
    /** Where redis is; 127.0.0.1 if falsy. In any of the forms that the second argument has. */
    host?: string | null | undefined;
    /** Redis port; 6379 if falsy. */
    port?: number | string | null | undefined;
    /** Milliseconds between renewals; a third of the ttl if not above 0, never if `Infinity`. */
    heartbeat_interval?: number | string | null | undefined;
    /** Seconds that a reservation lives without renewal. */
    lock_ttl?: number | string | null | undefined;
    /** Where lines go; `console.log` if absent. */
    log?: Log | null | undefined;
    /** What to authenticate with; none if empty. */
    password?: string | null | undefined;
  }

  /**
   * Times in milliseconds, above 0. What is wrong, unknown or contradictory is reported by the first call, as
   * `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE`. Each is read when it is used; what is inside of `tls`,
   * `sentinels` and `cluster` is read anew when the object or array is another.
   */
  export interface Options {
    /** How long a connect or a handshake may be pending; 5,000. Refusals are retried for 500 ms, whatever this is. */
    connect_timeout?: number | string | null | undefined;
    /** How long a command may go unanswered; a third of the ttl, but 50 at least and 5,000 at most. Never above the ttl. */
    command_timeout?: number | string | null | undefined;
    /**
     * How long after its acquisition a reservation is no longer renewed and told lost, so that a hung process cannot hold
     * for ever; no limit.
     */
    max_hold?: number | string | null | undefined;
    /** The user of redis's ACL that `password` belongs to; redis's `default` user if absent or empty. */
    username?: string | null | undefined;
    /** The number of the database, 0 or more; 0. */
    db?: number | string | null | undefined;
    /** Whether to use TLS; false, and true for a `rediss://` URL. An object turns it on. Not for unix sockets. */
    tls?: boolean | TlsOptions | null | undefined;
    /**
     * Sentinels that know the master called `name`: any that answers is asked. Port 26379 where it is absent. Instead of
     * `host` and `port`, and not together with `cluster`.
     */
    sentinels?: readonly Member[] | null | undefined;
    /** The name under which the sentinels watch the master. Required with `sentinels`, refused without. */
    name?: string | null | undefined;
    /**
     * The user of the sentinels' own ACL that `sentinelPassword` belongs to; their `default` user if absent or empty.
     * Refused without `sentinels`.
     */
    sentinelUsername?: string | null | undefined;
    /** What to authenticate with at the sentinels; none. Refused without `sentinels`. No line or error shows it. */
    sentinelPassword?: string | null | undefined;
    /**
     * Some nodes of a cluster, through which the others are found. Port 6379 where it is absent. Instead of `host` and
     * `port`, and not together with `sentinels`.
     */
    cluster?: readonly Member[] | null | undefined;
    /** The connection's name in `CLIENT LIST`: visible ASCII characters, no spaces; `redis-reservation`. */
    client_name?: string | null | undefined;
    /** The version of redis's protocol, 2 or 3; 3 where the server has it. With 2, waiters poll each second. */
    protocol?: 2 | 3 | '2' | '3' | null | undefined;
    /** What the keys in redis begin with; `reservation-`. It may be empty. Others share a lock only under the same one. */
    key_prefix?: string | null | undefined;
    /** How many replicas must have a lock before it counts, 0 or more; 0. Fewer are `ERR_TOO_FEW_REPLICAS`. */
    min_replicas?: number | string | null | undefined;
  }

  /** One server of several. */
  export interface Member {
    /** A name or an address. */
    host: string;
    /** 26379 for a sentinel, 6379 for a node of a cluster. */
    port?: number | string | null | undefined;
  }

  /** PEM text: a string, its bytes, or several of these. */
  export type Pem = string | Uint8Array | readonly (string | Uint8Array)[];

  /** As Node names them. */
  export interface TlsOptions {
    /** The certificates to trust; those that Node trusts, `NODE_EXTRA_CA_CERTS` included. */
    ca?: Pem | null | undefined;
    /** The certificate to show to the server; none. Only together with `key`. */
    cert?: Pem | null | undefined;
    /** The private key of `cert`, not encrypted; none. No line or error shows it. */
    key?: Pem | null | undefined;
    /** The name that the certificate of every server must have; that of its host. */
    servername?: string | null | undefined;
    /**
     * Whether the server's certificate must be right; true. False leaves the connection open to whoever sits on the way:
     * one line `tls-unverified` warns of it.
     */
    rejectUnauthorized?: boolean | null | undefined;
  }

  export interface WaitOptions {
    /** Milliseconds to wait at most; no limit. 0 tries once. */
    timeout?: number | string | null | undefined;
    /** Ends the wait when it is aborted; the call then fails with its reason. */
    signal?: AbortSignalLike | null | undefined;
  }

  /** As much of an AbortSignal as is needed of one. */
  export interface AbortSignalLike {
    readonly aborted: boolean;
    readonly reason?: any;
    addEventListener(type: 'abort', listener: () => void): void;
    removeEventListener?(type: 'abort', listener: () => void): void;
  }

  /** The fields of one line. */
  export interface LogEvent {
    level: 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical';
    source: unknown;
    via: string;
    title: string;
    [field: string]: unknown;
  }

  /** A logger as kayvee makes them. */
  export interface KayveeLike {
    infoD(title: string, event: any): void;
    errorD(title: string, event: any): void;
    warnD?(title: string, event: any): void;
  }

  /** Any other logger: each call gets a title and the line's fields. */
  export interface InfoErrorLogger {
    info(title: string, event: any): void;
    error(title: string, event: any): void;
    warn?(title: string, event: any): void;
  }

  /**
   * Where lines go. A function gets each line as one string of JSON. A logger gets `(title, event)`. Any other object is
   * merged into every line, which goes to `console.log`. `false` is silence. `KAYVEE_LOG_LEVEL` is the threshold.
   */
  export type Log = ((line: string) => void) | KayveeLike | InfoErrorLogger | Metadata | false;

  /** Fields for every line. Names of options are refused, for they were meant as such. */
  export type Metadata = ({ [field: string]: unknown } | object) & {
    [Option in Exclude<keyof Options, 'name'> | 'password']?: never;
  };

  /** What may be put in place of `logger`. */
  export type LoggerLike = Logger | KayveeLike | InfoErrorLogger;

  /** The logger of an instance, with kayvee's methods. */
  export interface Logger {
    /** What every line has: `source`, `via`, and the metadata. */
    globals: { [field: string]: unknown };
    /** The threshold: `trace`, `debug`, `info`, `warning`, `error` or `critical`; `debug` for anything else. */
    setLogLevel(level: string): string;
    /** Sends every line, as one string, to `output`. */
    setOutput(output: (line: string) => void): (line: string) => void;
    /** Makes the lines from their fields. */
    setFormatter(formatter: (event: LogEvent) => string): (event: LogEvent) => string;
    /** Its result is in every line, as `_kvmeta`. */
    setRouter(router: { route(event: LogEvent): unknown } | null): void;
    /** Its store is a Map; what that has as `context` is in every line. */
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

  /** The process's shared connection to one endpoint. */
  export interface RedisHandle {
    /** Closes the connection if nothing needs it; the next call opens it again. The answer is `OK`. */
    quit(): Promise<'OK'>;
    quit(callback: Callback<'OK'>): void;
    /** As {@link quit}, without an answer. */
    end(): void;
    /** Keeps the process alive until {@link unref}, {@link quit} or {@link end}. A reservation that is held does not. */
    ref(): this;
    /** Takes {@link ref} back. */
    unref(): this;
    /** As the other methods of a client's events: accepted for 0.4.0's callers, and never called. */
    on(event: string, listener: (...args: any[]) => void): this;
    once(event: string, listener: (...args: any[]) => void): this;
    addListener(event: string, listener: (...args: any[]) => void): this;
    off(event: string, listener: (...args: any[]) => void): this;
    removeListener(event: string, listener: (...args: any[]) => void): this;
    removeAllListeners(event?: string): this;
    setMaxListeners(count: number): this;
    /** Throws: set `options.db`. */
    select(...args: unknown[]): never;
    /** Throws: set `password`, and `options.username`. */
    auth(...args: unknown[]): never;
  }

  /** Every failure of this package. `String(err)` is `Error: <message>`. */
  export class ReservationError extends Error {
    constructor(message?: string, code?: string, details?: object);
    readonly code: string;
    /** What led to it, where there is something. */
    readonly cause?: unknown;
    /** The key in redis that it is about. */
    readonly key?: string;
    /** The endpoint that it is about. */
    readonly host?: string;
    readonly port?: number;
    /** After a release: how many were freed all the same. */
    readonly released?: number;
    /** After a release or a renewal: the keys that were found lost. */
    readonly lost?: string[];
    /** After a release: the keys that may be released again. */
    readonly failed?: string[];
    /** For JSON, and for other threads: `name`, `code` and `message`, the fields above, and the causes likewise. */
    toJSON(): { name: string; code: string; message: string; [field: string]: unknown };
  }

  /** A wrong argument, field or option: nothing was sent to redis. */
  export class InvalidArgumentError extends ReservationError {
    readonly code: 'ERR_INVALID_ARG_TYPE' | 'ERR_INVALID_ARG_VALUE';
  }

  /** No connection could be had, or it broke and the call's time was up. */
  export class RedisConnectionError extends ReservationError {
    readonly code: 'ERR_REDIS_CONNECTION';
  }

  /** Redis refused the credentials, or what they may do. */
  export class RedisAuthError extends ReservationError {
    readonly code: 'ERR_REDIS_AUTH';
  }

  /** Redis answered with an error; its text stands in the message. */
  export class RedisReplyError extends ReservationError {
    readonly code: 'ERR_REDIS_REPLY';
  }

  /** Redis did not answer within `command_timeout`. */
  export class RedisTimeoutError extends ReservationError {
    readonly code: 'ERR_REDIS_TIMEOUT';
  }

  /** What was held is no longer ours. */
  export class ReservationLostError extends ReservationError {
    readonly code: 'ERR_RESERVATION_LOST';
    readonly key: string;
    /** The value that the key had while it was ours. */
    readonly val: string;
    /** The value that it has now, if somebody else holds it and that is known. */
    readonly holder?: string;
  }

  /** A renewal was asked for while nothing is held. */
  export class ReservationNotHeldError extends ReservationError {
    readonly code: 'ERR_RESERVATION_NOT_HELD';
  }

  /** Fewer than `min_replicas` replicas had the lock in time. It was given back. */
  export class TooFewReplicasError extends ReservationError {
    readonly code: 'ERR_TOO_FEW_REPLICAS';
  }

  /** The `timeout` of a wait passed before the resource was free. */
  export class ReservationTimeoutError extends ReservationError {
    readonly code: 'ERR_RESERVATION_TIMEOUT';
  }

  /** The native part of the package could not be loaded; the message tells what was tried. */
  export class NativeLoadError extends ReservationError {
    readonly code: 'ERR_NATIVE_LOAD';
  }
}
