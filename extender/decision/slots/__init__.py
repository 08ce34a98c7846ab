"""How many more pods fit now, what the missing ones are lost to, and which moves would regain them. Pure.

slot_question     what is asked, within bounds, and the pod that it stands for
node_idleness     the GPUs of one node, and those that no known pod holds
slot_counter      how many more such pods one node takes, one after another
lost_slots        what each missing slot of one node is lost to, by counterfactuals
slot_answer       the typed answer, and its sentence
slot_summary      the sums per product, pool or node
movable_pods      which pods may be moved
pod_moves         the cluster after a pod was moved, and where the same evaluation places it
defrag_search     the fewest and cheapest moves that regain the most slots
defrag_answer     the typed answer about moves

This package must not import a client, clock, thread, log or settings loader.
"""
