-- Asks for the right to load a row.
-- ARGV: token, lease ms, floor (19 digits), 'value' or 'refresh', the schemas of the rows and of the
--       absences that the reader can use (8 hex digits each)
-- Returns {'granted' | 'wait' | 'blocked', now} or {'hit', now, entry}.
local token, lease_ms, floor, want = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local deadline = now + lease_ms
local claim = 'L1' .. slot(token, deadline)

local entry = read()
if not entry then
  tombstone(ZERO, now, claim, deadline)
  return { 'granted', now }
end

for _, writer in ipairs(entry.writers) do
  if writer.deadline > now then return { 'blocked', now } end
end
if #entry.writers > 0 then
  -- Every write outlived its time, so what they did is unknown: the value goes, the floor stays.
  tombstone(entry.version, math.max(entry.floor_until, deadline), claim, math.max(expiry(), deadline))
  return { 'granted', now }
end

-- As any build spells them.
local schema = entry.head:sub(49, 56):lower()
local usable = entry.version >= floor
  and (entry.kind == 'V' and schema == ARGV[5] or entry.kind == 'A' and schema == ARGV[6])
if usable and want == 'value' then return { 'hit', now, redis.call('GET', key) } end
if entry.lease and entry.lease.deadline > now then return { 'wait', now } end
if usable then
  reclaim(entry, claim)
  return { 'granted', now }
end
-- A value that the reader cannot use goes; its version is the floor for this load.
local floor_until = entry.kind == 'T' and entry.fresh_until or deadline
tombstone(floor_until > now and entry.version or ZERO, floor_until, claim, math.max(expiry(), deadline))
return { 'granted', now }
