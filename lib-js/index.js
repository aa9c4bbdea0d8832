// Where 0.4.0 kept its code. Callers who asked for this file find the package.
'use strict';

module.exports = require('../index.js');
