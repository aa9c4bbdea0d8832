# A worker as for redis-reservation 0.4.0, with all of redis's whereabouts in one environment variable, such as
# REDIS_URL=rediss://worker:secret@redis.example.com:6379/2?key_prefix=billing-
ReserveResource = require 'redis-reservation'

reservation = new ReserveResource(
  'worker-name',
  process.env.REDIS_URL
  null              # the port stands in the URL
  10 * 60 * 1000    # 10 minutes
  30 * 60           # 30 minutes
)

reservation.lock 'nightly-report', (err, lock_status) ->
  throw err if err?
  return console.log 'Reservation already held' unless lock_status
  console.log 'the job runs'
  reservation.release (err) ->
    throw err if err?
    console.log 'the lock is free'
