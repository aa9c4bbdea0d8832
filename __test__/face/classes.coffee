# Subclasses as CoffeeScript programs write them, in syntax that both CoffeeScript 1 and 2 take.
ReserveResource = require '../../index.js'

class Worker extends ReserveResource
  @_name: 'worker'
  constructor: (payload) ->
    super 'worker', '127.0.0.1', 6380, 1000, 10
    @payload = payload
  ensure_reservation: (cb) -> 'mine'

class Bare extends ReserveResource

worker = new Worker 5
bare = new Bare 'bare', '127.0.0.1', 6380
console.log JSON.stringify
  by: worker.by
  bare: bare.by
  payload: worker.payload
  instance: worker instanceof ReserveResource and bare instanceof ReserveResource
  statics: (name for own name of Worker when name isnt '__super__')
  overridden: worker._ensure_reservation()
  inherited: typeof worker.lock
process.disconnect?()
