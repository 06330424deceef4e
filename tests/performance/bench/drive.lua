-- Sends the requests of one workload in turn, and prints what wrk measured as one line of JSON.
-- Arguments after the URL's `--`: a folder with `headers` (one "Name: value" a line) and the bodies 0, 1, ...,
-- and the number of bodies; with none of them it sends GET.

local requests = {}
local sent = 0

local function content(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

function init(args)
  local headers = {}
  for line in content(args[1] .. "/headers"):gmatch("[^\n]+") do
    local name, value = line:match("^(.-): (.*)$")
    headers[name] = value
  end
  for index = 0, tonumber(args[2]) - 1 do
    requests[index + 1] = wrk.format("POST", nil, headers, content(args[1] .. "/" .. index))
  end
  if #requests == 0 then
    requests[1] = wrk.format("GET", nil, headers)
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, "bytes": %d, ' ..
    '"connect_errors": %d, "read_errors": %d, "write_errors": %d, "status_errors": %d, "timeouts": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    summary.bytes, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
