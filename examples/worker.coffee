# A worker as it was written for redis-reservation 0.4.0, with CoffeeScript 1 or 2.
ReserveResource = require 'redis-reservation'

job_name = 'nightly-report'
reservation = new ReserveResource(
  'worker-name',
  process.env.REDIS_HOST,
  process.env.REDIS_PORT,
  10 * 60 * 1000,   # 10 minutes
  30 * 60           # 30 minutes
)

do_job = ->
  console.log 'the job runs'
  reservation.release (err) ->
    throw err if err?
    console.log 'the lock is free'

reservation.lock job_name, (err, lock_status) ->
  throw err if err?
  if lock_status
    do_job()
  else
    console.log 'Reservation already held'
    reservation.wait_until_lock job_name, (err, reserve_key) ->
      throw err if err?
      console.log "got #{reserve_key}"
      do_job()
