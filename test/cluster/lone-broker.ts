/** One process of the compiled command line that a test starts by itself, outside any plan. */
import { type ChildProcess, spawn } from 'node:child_process'
import { type AddressInfo, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { findPorts } from '../../src/cli/fast-try/ports.ts'
import type { CliResult } from './support.ts'

const entry = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
/** A process that ought to refuse its start is not waited for longer. */
const runTimeoutMs = 200_000

/** The result of the process, which can also be told to go. */
export interface Running extends Promise<CliResult> {
  kill(): void
}

export function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
  let child: ChildProcess | undefined
  const result = new Promise<CliResult>((resolve, reject) => {
    let stdout = ''
    let stderr = ''
    const started = spawn(process.execPath, [entry, ...args], {
      timeout: runTimeoutMs,
      killSignal: 'SIGKILL',
      env: { ...process.env, ...env },
    })
    child = started
    started.stdout.on('data', (bytes: Buffer) => {
      stdout += bytes.toString()
    })
    started.stderr.on('data', (bytes: Buffer) => {
      stderr += bytes.toString()
    })
    started.on('error', reject)
    started.on('close', (code) => resolve({ code, stdout, stderr }))
  })
  return Object.assign(result, { kill: () => void child?.kill('SIGKILL') })
}

export interface LoneBroker {
  readonly cluster: string
  readonly group: string
  readonly node: string
  /** As the flag wants it. */
  readonly peers: string
  readonly data: string
  readonly listenPort: number
  readonly bootstrap?: boolean
  /** Further flags, as they are. */
  readonly flags?: readonly string[]
}

export function startBroker(broker: LoneBroker): Running {
  const { cluster, group, node, peers, data, listenPort, bootstrap = false, flags = [] } = broker
  return run([
    'broker',
    ...['--cluster', cluster, '--group', group, '--node', node],
    ...['--peers', peers, '--data', data],
    ...['--listen', `127.0.0.1:${listenPort}`],
    // Nobody listens there: such a broker registers nowhere.
    ...['--namesrv', '127.0.0.1:1'],
    ...['--segment-bytes', '64MiB'],
    ...(bootstrap ? ['--bootstrap'] : []),
    ...flags,
  ])
}

export async function freePort(): Promise<number> {
  const [found] = await findPorts([{ name: 'test', port: 0 }], { anyPorts: true })
  return found?.port ?? 0
}

/** A port that this test itself listens on. */
export function takePort(): Promise<{ readonly port: number; readonly free: () => Promise<void> }> {
  const server = createServer()
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () =>
      resolve({
        port: (server.address() as AddressInfo).port,
        free: () => new Promise((done) => server.close(() => done())),
      }),
    )
  })
}
