-- Deletes a key only if it holds our value.
-- KEYS[1] key; ARGV[1] our value.
-- Returns 1: deleted; nil: the key is gone; a string: the holder's value; or an error of GET or DEL as redis worded it.
local holder = redis.pcall('get', KEYS[1])
if holder == ARGV[1] then
  return redis.pcall('del', KEYS[1])
end
-- Only a master's reply counts, see extend.lua.
local authority = redis.pcall('getex', KEYS[1])
if type(authority) == 'table' and authority.err and string.find(authority.err, 'READONLY') then
  return authority
end
return holder
