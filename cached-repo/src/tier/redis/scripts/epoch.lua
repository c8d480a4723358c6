-- Reads or changes the epochs of a namespace, which are in one hash: under '#base' what they are
-- counted from, and for each entity how often its epoch was raised (8 hex digits) and the blocks (24
-- bytes each).
-- ARGV: base (8 hex digits) if there is no table, 'read' | 'raise' | 'block' | 'end' |
--       'release', token, block ms, ms until the table expires, channel, all (its message), entities…
-- Returns {now, 1 if an epoch was raised, the fields and values of the hash}.
local base, change, token, block_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local lasts_ms, channel, all, FIRST = tonumber(ARGV[5]), ARGV[6], ARGV[7], 8

-- What is under a field, or nil if it is not what this build writes there.
local function parse(text)
  if #text % SLOT ~= 8 or text:sub(1, 8):find('%X') then return nil end
  local epoch = { raised = tonumber(text:sub(1, 8), 16), blocks = {} }
  for at = 9, #text, SLOT do
    local one = text:sub(at, at + SLOT - 1)
    if one:find('%D', TOKEN + 1) then return nil end
    table.insert(epoch.blocks, { text = one, token = one:sub(1, TOKEN), deadline = tonumber(one:sub(TOKEN + 1)) })
  end
  return epoch
end

-- The table, or nil if there is none, or what is there is none: then a new one with another base
-- outdates all entries.
local function load()
  local held = redis.pcall('HGETALL', key)
  if type(held) ~= 'table' or held.err or #held == 0 then return nil end
  local found = { entities = {}, texts = {} }
  for i = 1, #held, 2 do
    local name, text = held[i], held[i + 1]
    found.texts[name] = text
    if name == '#base' then
      found.base = #text == 8 and not text:find('%X') and text
    elseif name:sub(1, 1) ~= '#' then
      found.entities[name] = parse(text)
      if not found.entities[name] then return nil end
    end
    -- Another field with '#' is a later release's.
  end
  return found.base and found
end

local epochs = load()
if not epochs then
  redis.call('DEL', key)
  epochs = { entities = {}, texts = {} }
end
local function put(name, text)
  redis.call('HSET', key, name, text)
  epochs.texts[name] = text
end
if not epochs.base then put('#base', base) end

local any_raised = false
for i = FIRST, #ARGV do
  if change == 'read' then break end
  local epoch = epochs.entities[ARGV[i]] or { raised = 0, blocks = {} }
  local blocks, stood = {}, false
  -- Blocks that have lapsed go: nothing from before them is used, and loads that began after them
  -- show whatever was committed in time.
  for _, block in ipairs(epoch.blocks) do
    if block.deadline > now then
      if block.token == token then stood = true else blocks[#blocks + 1] = block.text end
    end
  end
  local raised = epoch.raised
  if change == 'raise' or change == 'block' or change == 'end' and not stood then
    raised = (raised + 1) % 2 ^ 32
    any_raised = true
  end
  if change == 'block' then blocks[#blocks + 1] = slot(token, now + block_ms) end
  put(ARGV[i], string.format('%08x', raised) .. table.concat(blocks))
  epochs.entities[ARGV[i]] = parse(epochs.texts[ARGV[i]])
end
if any_raised and channel ~= '' then redis.call('PUBLISH', channel, all) end
-- Not at every read, which would be a write each time.
if redis.call('PTTL', key) < lasts_ms / 2 then redis.call('PEXPIRE', key, string.format('%.0f', lasts_ms)) end
local fields = {}
for name, text in pairs(epochs.texts) do
  fields[#fields + 1] = name
  fields[#fields + 1] = text
end
return { now, any_raised and 1 or 0, fields }
