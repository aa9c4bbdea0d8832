# A worker as it was written for 0.4.0, in CoffeeScript 1 or 2: a subclass with fields and methods of its own.
ReserveResource = require '../../index.js'

class Worker extends ReserveResource
  constructor: (name, host, port) ->
    super name, host, port, 200, 30, false
    @own = 'own field'

  lock: (resource, callback) ->
    super resource, (err, got) => callback err, [got, @own]

  describe: -> "#{@by} at #{@port}"

worker = new Worker 'coffee', process.env.REDIS_HOST, process.env.REDIS_PORT

worker.lock 'job', (err, answer) ->
  throw err if err?
  state = {
    answer, held: worker.held, key: worker._reserve_key, val: worker._reserve_val
    instance: worker instanceof ReserveResource, described: worker.describe(), own: worker.own
  }
  worker.release (err, released) ->
    throw err if err?
    worker.wait_until_lock 'job', (err, reserve_key) ->
      throw err if err?
      worker.release (err) ->
        throw err if err?
        process.send Object.assign state, {released, reserve_key}
