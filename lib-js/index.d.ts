import ReserveResource = require('../index');

export = ReserveResource;
