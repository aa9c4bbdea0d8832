// The same types from an ES module, where node finds the names by scanning index.js.
import ReserveResource, { ReservationLostError, ReserveResource as named } from 'redis-reservation';

const reservation: named = new ReserveResource('worker', 'localhost', 6379, 1000, 10);
const locked: boolean = await reservation.lock('job');
const key: string = await reservation.wait_until_lock('job', { timeout: 100 });
reservation.on('lost', (err: ReservationLostError) => err.holder);
const callback: ReserveResource.Callback<boolean> = (err, status) => void [err?.code, status];
export { callback, key, locked };
