/**
 * Who voted for whom, by disk: one vote per term (R1), and a leader only with a majority of both halves of the
 * configuration that it holds (Raft section 6). Fed and asked by the judge; a vote is what left over the wire.
 */
import type { Membership } from '../../src/broker/membership/membership.ts'
import type { Member } from '../../src/rpc/methods.ts'

export class Ballots {
  /** By term, voter and disk. */
  readonly #votes = new Map<string, string>()

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
