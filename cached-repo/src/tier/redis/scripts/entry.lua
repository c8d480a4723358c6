-- What every script shares: the entry under KEYS[1], and how to write one.
-- The layout is that of protocol/entry.rs: format(1) kind(1) version(19) at(13) span(10) cost(4)
-- schema(8) claims(2), then token(11) deadline(13) per claim, then the payload. Versions are
-- compared as strings of 19 digits, because Lua's numbers lose precision beyond 2^53.
local key = KEYS[1]
local FORMAT, HEADER, TOKEN, SLOT, MOST_SLOTS = '1', 58, 11, 24, 50
local ZERO = string.rep('0', 19)
-- The token of the slot that several writes share: no write has it.
local SHARED = string.rep('*', TOKEN)
-- The token of a write, or its whole claim, once it may no longer put its row.
local function voided(text) return text:sub(1, TOKEN - 1) .. '*' .. text:sub(TOKEN + 1) end

local function slot(token, deadline) return string.format('%s%013.0f', token, deadline) end

-- The entry, or nil if the key holds nothing or no entry of this format.
local function read()
  -- With its first claim, which is mostly the only one.
  local head = redis.pcall('GETRANGE', key, 0, HEADER + SLOT - 1)
  if type(head) ~= 'string' or #head < HEADER then return nil end
  local kind = head:sub(2, 2)
  local odd, odd_schema = head:find('%D', 3), head:find('%X', 49)
  if head:sub(1, 1) ~= FORMAT or kind ~= 'V' and kind ~= 'T' and kind ~= 'A'
    or odd and odd < 49 or odd_schema and odd_schema < 57 then
    return nil
  end
  local claims = head:sub(57, 58)
  local leased = claims == 'L1'
  local count = leased and 1 or not claims:find('%D') and tonumber(claims) or 99
  if count > MOST_SLOTS then return nil end
  local slots = {}
  if count > 0 then
    local text = count == 1 and head:sub(HEADER + 1)
      or redis.call('GETRANGE', key, HEADER, HEADER + count * SLOT - 1)
    for i = 0, count - 1 do
      local one = text:sub(i * SLOT + 1, (i + 1) * SLOT)
      if #one ~= SLOT or one:find('%D', TOKEN + 1) then return nil end
      slots[i + 1] = { text = one, token = one:sub(1, TOKEN), deadline = tonumber(one:sub(TOKEN + 1)) }
    end
  end
  local version, fresh_until = head:sub(3, 21), tonumber(head:sub(22, 34)) + tonumber(head:sub(35, 44))
  return {
    kind = kind, version = version, head = head, fresh_until = fresh_until,
    lease = leased and slots[1] or nil, writers = leased and {} or slots,
    body = HEADER + count * SLOT,
    -- Until when a tombstone's floor holds; other entries have their value instead.
    floor_until = kind == 'T' and fresh_until or 0,
    -- The version below which nothing may be stored: a tombstone's lapses.
    floor = kind == 'T' and fresh_until <= now and ZERO or version,
  }
end

-- When the key expires; to be asked before it is written.
local function expiry() return redis.call('PEXPIRETIME', key) end

local function payload(entry) return redis.call('GETRANGE', key, entry.body, -1) end

local function claims_of(writers)
  local text = {}
  for i, writer in ipairs(writers) do text[i] = writer.text end
  return string.format('%02d', #writers) .. table.concat(text)
end

-- Writes a tombstone that expires at the given moment.
local function tombstone(version, floor_until, claims, expires)
  local span = math.min(math.max(floor_until - now, 0), 9999999999)
  redis.call('SET', key, string.format('%sT%s%013.0f%010.0f000000000000%s', FORMAT, version, now, span, claims),
    'PXAT', string.format('%.0f', expires))
end

-- Writes a value or an absent: cost and schema as the client spells them.
local function hold(kind, version, fresh_ms, cost, schema, claims, body, expires)
  local head = string.format('%s%s%s%013.0f%010.0f%s%s%s',
    FORMAT, kind, version, now, fresh_ms, cost, schema, claims)
  redis.call('SET', key, head .. body, 'PXAT', string.format('%.0f', expires))
end

-- Tells the near caches that the row may have changed.
local function announce(channel)
  if channel ~= '' then redis.call('PUBLISH', channel, key) end
end

-- Replaces the claims and leaves the rest of the entry as it is.
local function reclaim(entry, claims)
  redis.call('SET', key, entry.head:sub(1, 56) .. claims .. payload(entry), 'KEEPTTL')
end
