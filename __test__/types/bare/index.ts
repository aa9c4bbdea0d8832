// The types without @types/node and without DOM. `npm run types` compiles this.
import ReserveResource = require('../../../index');
import deep = require('../../../lib-js/index');

const same: typeof ReserveResource = deep;
const reservation = new same({ by: 'w', lock_ttl: 5 });

async function work(): Promise<void> {
  const key: string = await reservation.wait_until_lock('job');
  const { signal } = reservation;
  if (signal === undefined || signal.aborted) return;
  await reservation.wait_until_lock(key, { signal });
  reservation.on('lost', (err) => err.holder);
}
void work;
