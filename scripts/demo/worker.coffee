# A worker written for redis-reservation 0.4.0, unchanged: callbacks, and a job that blocks the
# event loop for longer than the lock lives, which 0.4.0's heartbeat (a JS timer) did not survive.
ReserveResource = require 'redis-reservation'

job_name = 'nightly-report'
reservation = new ReserveResource 'ada',
  process.env.REDIS_HOST,
  process.env.REDIS_PORT,
  500, # renew every 500 milliseconds
  2    # the lock lives for 2 seconds

do_job = ->
  console.log 'job begins'
  end = Date.now() + 5000
  continue while Date.now() < end
  console.log 'job ends'
  reservation.release (err) ->
    throw err if err?
    console.log 'released'

console.log 'wants the lock'
reservation.lock job_name, (err, lock_status) ->
  throw err if err?
  if lock_status
    console.log 'lock true'
    do_job()
  else
    console.log 'lock false'
    reservation.wait_until_lock job_name, (err, reserve_key) ->
      throw err if err?
      do_job()
