# redis-reservation 0.4.0 itself, steered by messages: {method, args} in, {args} of its callback out.
ReserveResource = require 'original'

reservation = new ReserveResource 'original', process.env.REDIS_HOST, process.env.REDIS_PORT, 300, 2

process.on 'message', ({method, args}) ->
  reservation[method] args..., (results...) ->
    process.send {method, args: results, key: reservation._reserve_key, val: reservation._reserve_val}
