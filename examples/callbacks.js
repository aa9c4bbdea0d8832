// One job, one lock, with callbacks: the code of a worker for redis-reservation 0.4.0.
'use strict';

const ReserveResource = require('redis-reservation');

const reservation = new ReserveResource(
  'worker-name',
  process.env.REDIS_HOST, // 127.0.0.1 if unset
  process.env.REDIS_PORT, // 6379 if unset
  10 * 1000, // renewed every 10 seconds
  30, // lives for 30 seconds without renewal
);

function do_job(callback) {
  console.log('the job runs');
  setTimeout(callback, 100);
}

function fail(err) {
  console.error(err.message);
  process.exitCode = 1;
}

reservation.lock('nightly-report', (err, lock_status) => {
  if (err) return fail(err);
  if (!lock_status) return console.log('somebody else runs it');
  return do_job((job_err) => {
    if (job_err) fail(job_err);
    reservation.release((release_err) => {
      // The job is done, but it was not certainly alone until its end.
      if (release_err) fail(release_err);
    });
  });
});
