-- Ends a lease with what the load found.
-- ARGV: token, 'V' row | 'A' absent | 'N' nothing, version (19 digits), fresh ms, cost (4 digits),
--       schema (8 hex digits), ttl ms, payload
-- Returns {'stored' | 'released' | 'lease lost' | 'below floor', now}.
local token, found, version = ARGV[1], ARGV[2], ARGV[3]

local function release(entry)
  if entry.kind == 'T' and entry.fresh_until <= now then
    redis.call('DEL', key)
  else
    reclaim(entry, '00')
  end
end

local entry = read()
-- A flush must not revive the leases from before it.
if not entry or not entry.lease or entry.lease.token ~= token or entry.lease.deadline <= now then
  return { 'lease lost', now }
end
if found == 'N' then
  release(entry)
  return { 'released', now }
end
if found == 'A' then
  version = entry.floor
elseif version < entry.floor then
  release(entry)
  return { 'below floor', now }
end
hold(found, version, tonumber(ARGV[4]), ARGV[5], ARGV[6], '00', ARGV[8], now + tonumber(ARGV[7]))
return { 'stored', now }
