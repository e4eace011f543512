/**
 * Who voted for whom, by disk: one vote per term (R1), and a leader only with a majority of both halves of the
 * configuration that it holds (Raft section 6). Fed and asked by the judge; a vote is what left over the wire.
 */
import type { Membership } from '../../src/broker/membership/membership.ts'
import type { Member } from '../../src/rpc/methods.ts'
import { hardStateSlotBytes } from '../../store/hard-state.ts'
import type { SimNode } from './sim-node.ts'

/** Last entry of a log. */
export interface LastEntry {
  readonly index: number
  readonly term: number
}

export class Ballots {
  /** By term and candidate: the log that it stands with. */
  readonly #logs = new Map<string, LastEntry>()
  /** By term, voter and disk. */
  readonly #votes = new Map<string, string>()

  stands(term: number, candidate: string, last: LastEntry): void {
    this.#logs.set(`${term} ${candidate}`, last)
  }

  /** Why a node whose log ends with `own` should not have voted for this candidate (Raft 5.4.1). */
  granted(term: number, candidate: string, own: LastEntry): string | null {
    const last = this.#logs.get(`${term} ${candidate}`)
    if (!last || last.term > own.term || (last.term === own.term && last.index >= own.index)) return null
    const logs = `${last.index} of term ${last.term}, the own one with ${own.index} of term ${own.term}`
    return `voted in term ${term} for ${candidate}, whose log ends with ${logs}`
  }

  /**
   * What is wrong with the log of the candidate. A vote leaves when the disk has it, and the own log may have grown
   * meanwhile: by what the candidate sent, which its own log held, or somebody else who leads this term or a later one.
   */
  grants(voter: SimNode, term: number, candidate: string): string | null {
    const status = voter.broker?.replica?.raftStatus()
    if (!status || status.lastTerm >= term) return null
    if (status.term !== term || (status.leader ?? candidate) !== candidate) return null
    const problem = this.granted(term, candidate, { index: status.lastIndex, term: status.lastTerm })
    return problem && `${voter.name} ${problem}`
  }

  /** What is wrong with this vote; null when nothing is. */
  cast(term: number, voter: Pick<Member, 'node' | 'disk'>, candidate: string): string | null {
    const key = keyOf(term, voter)
    const known = this.#votes.get(key)
    this.#votes.set(key, candidate)
    if (known === undefined || known === candidate) return null
    return `${voter.node} voted for ${known} and for ${candidate} in term ${term}`
  }

  /** Why `leader` must not lead this term by this membership; null when it may. */
  elected(term: number, leader: string, { voters, outgoing }: Membership): string | null {
    for (const half of [voters, outgoing]) {
      const granted = half.filter((voter) => this.#votes.get(keyOf(term, voter)) === leader)
      if (half.length === 0 || granted.length * 2 > half.length) continue
      const given = granted.map(({ node }) => node).join(' ') || 'nobody'
      return `${leader} leads term ${term} by the votes of ${given}, of the voters ${half.map(({ node }) => node).join(' ')}`
    }
    return null
  }
}

function keyOf(term: number, { node, disk }: Pick<Member, 'node' | 'disk'>): string {
  return `${term} ${node} ${disk}`
}

/** The newest slot of the hard state as a power cut would leave it; a later term has forgotten the vote. */
export function isVoteDurable(node: SimNode, term: number, candidate: string): boolean {
  const bytes = node.disk.durableRangeOf(`data/${node.name}/hard-state`, 0, 2 * hardStateSlotBytes)
  return [0, hardStateSlotBytes].some((at) => {
    if (bytes.length < at + hardStateSlotBytes) return false
    const savedTerm = Number(bytes.readBigUInt64LE(at + 16))
    const vote = bytes.toString('utf8', at + 32, at + 32 + candidate.length)
    return savedTerm > term || (savedTerm === term && vote === candidate)
  })
}
