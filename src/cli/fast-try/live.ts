/**
 * The live table of an attached cluster on a terminal: role, term, indexes, lag and process of every replica, the
 * last events, the load, and keys to kill, pause, resume and restart. Draws only; `cluster.ts` acts.
 */
import { styleText } from 'node:util'
import type { NodeEvent } from '../../client/mod.ts'
import { type Clock, sleep } from '../../common/clock.ts'
import { formatTable } from '../output.ts'
import type { LocalCluster, NodeView } from './cluster.ts'
import type { Load } from './load.ts'

const redrawMs = 200
/** One that hangs must not hold up what is seen of the others. */
const lookTimeoutMs = 500
const eventsShown = 10
/** Colour means term, so that a change of leader is seen at a glance; the glyph means role. */
const termColours = ['cyan', 'yellow', 'magenta', 'green', 'blue', 'white'] as const

export const keyHelp = 'keys: [1-9] select  [k]ill leader  [x] kill selected  [p]ause  [c]ontinue  [r]estart  [q]uit'

export async function runLive(cluster: LocalCluster, load: Load, clock: Clock): Promise<void> {
  const live = new Live(cluster, load, clock)
  await live.run()
}

class Live {
  readonly #cluster: LocalCluster
  readonly #load: Load
  readonly #clock: Clock
  readonly #events: string[] = []
  readonly #seen = new Set<string>()
  readonly #stop = new AbortController()
  #selected = 0
  #view: readonly NodeView[] = []

  constructor(cluster: LocalCluster, load: Load, clock: Clock) {
    this.#cluster = cluster
    this.#load = load
    this.#clock = clock
  }

  async run(): Promise<void> {
    const { stdin, stdout } = process
    const onKey = (key: Buffer): void => {
      void this.#onKey(key.toString('utf8'))
    }
    const remove = this.#cluster.onEvent((event) => this.#remember(event))
    stdin.setRawMode(true)
    stdin.resume()
    stdin.on('data', onKey)
    stdout.write('\x1b[?1049h\x1b[?25l')
    try {
      while (!this.#stop.signal.aborted) {
        this.#view = await this.#cluster.view(lookTimeoutMs)
        stdout.write(`\x1b[H\x1b[2J${this.#draw()}`)
        await sleep(this.#clock, redrawMs, this.#stop.signal).catch(() => {})
      }
    } finally {
      remove()
      stdin.off('data', onKey)
      stdin.setRawMode(false)
      stdin.pause()
      stdout.write('\x1b[?25h\x1b[?1049l')
    }
  }

  #draw(): string {
    const table = formatTable(this.#view, [
      { head: ' ', cell: (row) => (this.#view.indexOf(row) === this.#selected ? '>' : ' ') },
      { head: 'NODE', cell: (row) => `${row.plan.group}/${row.plan.node}` },
      { head: 'ROLE', cell: (row) => roleOf(row) },
      { head: 'TERM', cell: (row) => row.status?.term },
      { head: 'LAST', cell: (row) => row.status?.lastIndex },
      { head: 'COMMIT', cell: (row) => row.status?.commitIndex },
      { head: 'APPLIED', cell: (row) => row.status?.appliedIndex },
      { head: 'LAG', cell: (row) => lagOf(row, this.#view) },
      { head: 'PROCESS', cell: (row) => `${row.process}${row.pid === null ? '' : ` ${row.pid}`}` },
    ])
    const [head = '', ...rows] = table.split('\n')
    return [
      styleText('bold', head),
      ...rows.map((line, index) => paint(line, this.#view[index])),
      '',
      `acknowledged ${this.#load.acknowledged}  longest gap ${Math.round(this.#load.longestGapMs())} ms  send errors ${this.#load.errors.length}`,
      '',
      ...this.#events,
      '',
      keyHelp,
    ].join('\n')
  }

  #remember(event: NodeEvent): void {
    const identity = `${event.group}/${event.node}/${event.sequence}/${event.wallMs}`
    if (this.#seen.has(identity)) return
    this.#seen.add(identity)
    const time = new Date(event.wallMs).toISOString().slice(11, 23)
    const details = Object.entries(event.details)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ')
    this.#events.push(`${time} ${event.node} t${event.term} ${event.kind} ${details}`)
    if (this.#events.length > eventsShown) this.#events.shift()
  }

  async #onKey(key: string): Promise<void> {
    const processes = this.#cluster.processes
    const selected = this.#view[this.#selected]?.plan.name
    if (key === 'q' || key === '\x03') this.#stop.abort()
    else if (/^[1-9]$/.test(key)) this.#selected = Math.min(Number(key) - 1, this.#view.length - 1)
    else if (key === 'k') {
      const leader = await this.#cluster.leader(this.#view[this.#selected]?.plan.group ?? '')
      if (leader) processes.signal(leader.plan.name, 'SIGKILL')
      this.#load.markGapStart()
    } else if (selected === undefined) return
    else if (key === 'x') processes.signal(selected, 'SIGKILL')
    else if (key === 'p') processes.signal(selected, 'SIGSTOP')
    else if (key === 'c') processes.signal(selected, 'SIGCONT')
    else if (key === 'r') processes.start(selected)
  }
}

function roleOf(row: NodeView): string {
  if (row.process !== 'running') return `✖ ${row.process}`
  if (!row.status) return '? no answer'
  return row.status.role === 'leader' ? '★ LEADER' : `● ${row.status.role}`
}

function lagOf(row: NodeView, view: readonly NodeView[]): number | null {
  const leader = view.find((other) => other.plan.group === row.plan.group && other.status?.role === 'leader')
  return row.status && leader?.status ? Math.max(0, leader.status.lastIndex - row.status.lastIndex) : null
}

function paint(line: string, row: NodeView | undefined): string {
  if (!row?.status || process.env['NO_COLOR']) return line
  return styleText(termColours[row.status.term % termColours.length] ?? 'white', line)
}
