-- Sets the ttl of a key only if it still holds our value.
-- KEYS[1] key; ARGV[1] our value; ARGV[2] ttl in milliseconds.
-- 1: extended; nil: the key is gone; a string: who holds it now; an error of GET or PEXPIRE, as redis worded it.
local holder = redis.pcall('get', KEYS[1])
if holder == ARGV[1] then
  return redis.pcall('pexpire', KEYS[1], ARGV[2])
end
-- A server that was demoted answers from a copy that is no authority on what we hold. GETEX reads as well, but only a
-- master may be asked.
local authority = redis.pcall('getex', KEYS[1])
if type(authority) == 'table' and authority.err and string.find(authority.err, 'READONLY') then
  return authority
end
return holder
