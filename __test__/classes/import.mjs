// Imports the package as an ES module: by default, by name, and as a namespace.
import ByDefault, { ReserveResource, ReservationError } from '../../index.js';
import * as all from '../../index.js';

const reservation = new ReserveResource(
  'esm',
  process.env.REDIS_HOST,
  process.env.REDIS_PORT,
  1000,
  30,
  false,
);
const got = await reservation.lock('job');
const released = await reservation.release();
const error = await reservation.lock(undefined).catch((caught) => caught);
process.send({
  same: ByDefault === ReserveResource && all.default === ByDefault,
  name: ByDefault.name,
  got,
  released,
  known: error instanceof ReservationError,
});
