-- Ends a write.
-- ARGV: token, keep ms, 'R' rolled back | 'U' put an updated row | 'C' put a created row |
--       'I' invalidate, version or floor (19 digits), channel, and for a put: fresh ms,
--       cost (4 digits), schema (8 hex digits), ttl ms, payload
-- Returns {'rolled back' | 'put' | 'superseded' | 'invalidated', now}.
local token, tombstone_ms, outcome, version, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local entry = read()
local own, others, known = nil, {}, ZERO
if entry then
  known = entry.floor
  for _, writer in ipairs(entry.writers) do
    if writer.token == token or writer.token == voided(token) then own = writer else others[#others + 1] = writer end
  end
end
if outcome == 'I' and (not own or version == ZERO) then
  -- The row has changed in a way that no version orders against these writes, perhaps after they
  -- have read what they would put. Their blocks stand, their puts do not.
  for _, writer in ipairs(others) do writer.text = voided(writer.text) end
end
local function disown()
  if own then reclaim(entry, claims_of(others)) end
end
-- A block that still stands was announced, and since then nobody could read the row here.
local function tell()
  if not (own and own.deadline > now) then announce(channel) end
end
-- How long the key must last for the sake of the writes still in flight.
local kept = #others > 0 and expiry() or 0

if outcome == 'R' then
  disown()
  return { 'rolled back', now }
end
if outcome == 'U' and entry and entry.kind == 'V' and known > version then
  disown()
  tell()
  return { 'superseded', now }
end
if outcome ~= 'I' and known <= version and own and own.token == token and own.deadline > now then
  hold('V', version, tonumber(ARGV[6]), ARGV[7], ARGV[8], claims_of(others), ARGV[10],
    math.max(now + tonumber(ARGV[9]), kept))
  return { 'put', now }
end
-- Not provably the newest, or a row that is gone: whoever reads next asks the database.
local floor_until = math.max(entry and entry.floor_until or 0, now + tombstone_ms)
if known > version then version = known end
tombstone(version, floor_until, claims_of(others), math.max(kept, floor_until))
tell()
return { 'invalidated', now }
