// The crew of a child process (see crew.js): waits and releases on command, and reports what it holds.
'use strict';

const ReserveResource = require('../../../index.js');
const { Crew, now } = require('./crew');

const { who, resources, password, options, ttl, interval } = JSON.parse(process.env.CREW);
const make = () => new ReserveResource(who, null, null, interval, ttl, false, password, options);
const crew = new Crew(who, make, resources);

const orders = {
  wait: () =>
    crew.wait(({ resource, reservation }) =>
      process.send({ had: resource, at: now(), value: reservation._reserve_val }),
    ),
  release: async () => {
    const freed = await crew.release();
    process.send({ freed, losses: crew.losses, tenures: crew.tenures });
  },
};

// A command that fails ends the process, with the reason on stderr, so that the test fails, too.
process.on('message', (order) => orders[order]());
process.send({ ready: true });
