/**
 * Which entries of a disk may rot, so that the group can make it good: the limits of what it promises, and no more.
 * Asked by the simulation when the fault strikes; changes nothing.
 *
 * Each entry stays intact on a majority of the voters, and outside of what their rot may hide. What may cost a node the
 * end of its log costs it its vote until a leader has been reached, so only one node at a time gets that.
 */
import { newestMark, segmentHeaderBytes } from '../../store/segment-header.ts'
import type { FaultEvent } from './fault.ts'
import type { Committed, Judge } from './judge.ts'
import type { Span } from './rot.ts'
import type { SimNode } from './sim-node.ts'

export interface RotChoice {
  readonly judge: Judge
  readonly nodes: readonly SimNode[]
  /** The end of a log may rot: the voters of a group of two could not spare that. */
  readonly mayCut: boolean
}

type BitRot = Extract<FaultEvent, { readonly kind: 'bit_rot' }>

/** Older entries that are tried when one may not rot. */
const triesMax = 16

export function chooseRotten(node: SimNode, { depth, entries }: BitRot, choice: RotChoice): readonly Committed[] {
  const { judge } = choice
  const { electorate, lastCommitted, messages } = judge
  if (!electorate.isSimple || !electorate.isVoter(node)) return []
  const mark = durableMarkOf(node)
  const mayCut = choice.mayCut && choice.nodes.every((other) => other === node || judge.rot.unhealed(other) === null)
  const first = Math.max(1, messages.trimmedBefore)
  let last = lastCommitted
  while (last >= first && endOf(judge.committedAt(last)) > mark) last--
  const from = last - Math.floor(depth * (last - first + 1))
  for (let index = from; index >= first && index > from - triesMax; index--) {
    const range = rangeUpTo(judge, index, entries)
    const isSpared = range.every((entry) => isElsewhere(node, entry, choice)) && isApart(node, range, choice)
    if (isSpared && (mayCut || isEnclosed(node, range, mark, judge))) return range
  }
  return []
}

function rangeUpTo(judge: Judge, to: number, entries: number): readonly Committed[] {
  const range: Committed[] = []
  for (let index = Math.max(1, to - entries + 1); index <= to; index++) {
    const entry = judge.committedAt(index)
    if (entry) range.push(entry)
  }
  return range
}

/** It lies here intact, and on a majority of the voters without this one, too. */
function isElsewhere(node: SimNode, entry: Committed, { judge, nodes }: RotChoice): boolean {
  if (!judge.isOnDisk(node, entry)) return false
  const { electorate } = judge
  const holders = nodes.filter((other) => other !== node && electorate.isVoter(other) && judge.isOnDisk(other, entry))
  return holders.length * 2 > electorate.voters.length
}

/** What may become one hole with it lies outside of all holes on a majority of the voters. */
function isApart(node: SimNode, range: readonly Committed[], { judge, nodes }: RotChoice): boolean {
  const { electorate, rot } = judge
  const { from, to } = spanWith(node, range, judge)
  const whole = nodes.filter((other) => {
    if (other === node || !electorate.isVoter(other)) return false
    const damage = rot.damageOf(other)
    return damage === null || damage.to < from || to < damage.from
  })
  return whole.length * 2 > electorate.voters.length
}

/**
 * Intact entries of the same term on both sides of all that may become one hole with it, below the mark: whatever rots,
 * the log goes on behind it. Two behind it: the first of a segment has to be put back with the padding before it.
 */
function isEnclosed(node: SimNode, range: readonly Committed[], mark: number, judge: Judge): boolean {
  const { from, to } = spanWith(node, range, judge)
  const around = [from - 1, to + 1, to + 2].map((index) => judge.committedAt(index))
  return around.every((entry) => {
    return entry && entry.term === around[0]?.term && endOf(entry) <= mark && judge.isOnDisk(node, entry)
  })
}

/** With what is rotten there already. */
function spanWith(node: SimNode, range: readonly Committed[], { rot }: Judge): Span {
  const indexes = range.map(({ index }) => index)
  const known = rot.damageOf(node)
  const all = known ? [...indexes, known.from, known.to] : indexes
  return { from: Math.min(...all), to: Math.max(...all) }
}

function endOf(entry: Committed | undefined): number {
  return entry ? entry.position + entry.bytes.length : 0
}

/** What lies behind it was promised to nobody, as far as the disk knows: rot there looks like a torn write. */
function durableMarkOf({ disk, logDirectory }: SimNode): number {
  let [sequence, position] = [0, 0]
  for (const path of disk.paths()) {
    if (!path.startsWith(`${logDirectory}/`)) continue
    const header = disk.durableRangeOf(path, 0, segmentHeaderBytes)
    const mark = header.length === segmentHeaderBytes ? newestMark(header) : null
    if (mark && mark.sequence > sequence) [sequence, position] = [mark.sequence, mark.position]
  }
  return position
}
