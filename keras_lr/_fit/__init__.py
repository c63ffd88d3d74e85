"""What runs inside one fit; `README.md` beside this file tells its life."""
