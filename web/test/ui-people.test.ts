/** Addresses as typed and names as shown: one form of each, and nothing that looks like something else. */

import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { fullName, parseAddress } from "../src/ui/people";

const parse = (typed: string) => parseAddress(typed, "initech.lab");

describe("an address", () => {
  it("b_142_a_domain_in_other_letters_becomes_its_one_a_label", () => {
    for (const typed of ["bob@bücher.example", "bob@bu\u0308cher.example", "Bob@BÜCHER.example", "bob@xn--bcher-kva.example", "bob@bücher\u3002example", "bob@ｂücher.example"]) {
      expect(parse(typed), typed).toBe("bob@xn--bcher-kva.example");
    }
    expect(parse("bob@faß.example")).toBe("bob@xn--fa-hia.example");
    expect(parse("bob@fass.example")).toBe("bob@fass.example");
    expect(parse("bob@ｅｘａｍｐｌｅ.com")).toBe("bob@example.com");
    for (const bad of ["bob@-a.example", "bob@a..example", "bob@127.0.0.1", "bob@2130706433", "bob@[::1]", "bob@a.example/x", "bob@a.example:1", "bob@a%2eb.example", "bob@@a.example", "@a.example", "bob@", "b ob@a.example", `bob@${"x".repeat(64)}.example`]) {
      expect(parse(bad), bad).toBeNull();
    }
    expect(parse("bob")).toBe("bob@initech.lab");
  });

  it("b_143_a_domain_of_mixed_scripts_is_shown_as_what_it_is", () => {
    // The first two letters are Cyrillic.
    const address = parse("bob@раypal.com");
    expect(address).toBe("bob@xn--ypal-43d9g.com");
    expect(fullName(address!, ["initech.lab"])).toBe("Bob (xn--ypal-43d9g.com)");
    expect(parse("bob@paypal.com")).not.toBe(address);
  });

  it("b_144_holds_nothing_that_cannot_be_seen_and_names_stand_for_themselves", () => {
    for (const hidden of ["\u202e", "\u200b", "\ufeff", "\u2066", "\u00ad", "\u0007"]) {
      expect(parse(`bo${hidden}b@example.com`), JSON.stringify(hidden)).toBeNull();
      expect(parse(`bob@exam${hidden}ple.com`), JSON.stringify(hidden)).toBeNull();
    }
    // Right-to-left names are fine, and turn nothing around them.
    expect(parse("דנה@example.com")).toBe("דנה@example.com");
    const style = readFileSync(new URL("../src/styles/base.css", import.meta.url), "utf8");
    expect(style).toMatch(/\.name,\s*\.badge,\s*\.by > span\s*\{[^}]*unicode-bidi: isolate/);
  });
});
