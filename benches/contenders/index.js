// The contenders by their ids, ours first.
'use strict';

const { SetupError } = require('../../scripts/setup/run');

const contenders = [
  require('./ours'),
  require('./original'),
  require('./ioredis'),
  require('./node-redis'),
  require('./redlock'),
  require('./redis-semaphore'),
  require('./simple-redis-mutex'),
  require('./warlock'),
  require('./redlock-universal'),
  require('./redis-kit'),
];

function contender(id) {
  const found = contenders.find((one) => one.id === id);
  if (!found)
    throw new SetupError(
      `There is no contender ${id}; there are ${contenders.map((one) => one.id).join(', ')}.`,
    );
  return found;
}

module.exports = { contenders, contender };
