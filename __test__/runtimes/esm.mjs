// The checks of `import`: by default, by name, and dynamic. Prints a line of JSON as probe.js does.
import ReserveResource, {
  ReserveResource as Named,
  ReservationError,
  ReservationLostError,
} from 'redis-reservation';

async function check() {
  if (Named !== ReserveResource) throw new Error('the named import is another class');
  if (typeof ReservationError !== 'function') throw new Error('no ReservationError');
  if (!(ReservationLostError.prototype instanceof ReservationError))
    throw new Error('no ReservationLostError');
  const { default: dynamic } = await import('redis-reservation');
  if (dynamic !== ReserveResource) throw new Error('import() gives another class');
  const { REDIS_HOST, REDIS_PORT } = process.env;
  class Worker extends ReserveResource {}
  const reservation = new Worker('probe', REDIS_HOST, REDIS_PORT, 0, 10, false);
  if ((await reservation.lock('esm')) !== true) throw new Error('lock');
  if ((await reservation.release()) !== 1) throw new Error('release');
}

check().then(
  () => console.log(JSON.stringify({ check: 'import', ok: true })),
  (error) => {
    process.exitCode = 1;
    console.log(JSON.stringify({ check: 'import', ok: false, seen: error.message }));
  },
);
