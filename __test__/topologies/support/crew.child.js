// The crew of a child process (see crew.js): waits when it is told to, says what it has, releases when it is told to.
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

// An order that fails ends the process, with the reason on its stderr: whoever waits for it is told.
process.on('message', (order) => orders[order]());
process.send({ ready: true });
